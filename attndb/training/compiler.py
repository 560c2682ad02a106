"""torch.compile: its settings for a U-Net's blocks, and what to do where it cannot work."""

from __future__ import annotations

from contextlib import AbstractContextManager


def every_shape_compiled() -> AbstractContextManager[object]:
    """torch.compile gives a function up after 8 shapes, and a U-Net's blocks come in more."""
    import torch._dynamo  # takes a second, and most trainings do without

    config = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    return config.patch({limit: 256})  # the second is its name before PyTorch 2.6


def is_of_compiler(error: BaseException) -> bool:
    """Whether it was torch.compile that failed: no compiler, no Triton, a PyTorch without it."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton"))


def cannot_compile(error: BaseException) -> ValueError:
    """The error to raise from what torch.compile said."""
    words = str(error).split("\n\n")[0].split() or [type(error).__name__]
    said = " ".join(words)  # "backend='inductor' raised:", and on the next line what
    return ValueError(
        f"compile is on, and PyTorch cannot compile the U-Net's blocks here ({said[:200]}): turn "
        "compile off in Training Options"
    )
