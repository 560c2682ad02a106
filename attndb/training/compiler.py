"""torch.compile: its settings for a U-Net's blocks, and what to do where it cannot work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import nn

from ..models.protocol import Model


@contextmanager
def compiled_blocks(model: Model) -> Iterator[None]:
    """Inside, the blocks of the private model's denoiser run compiled; afterwards none of them
    does. ValueError where PyTorch cannot compile."""
    with ExitStack() as entered:
        entered.callback(_run_as_written, model.unet)
        try:
            entered.enter_context(every_shape_compiled())
            model.compile_blocks()
        except RuntimeError as error:
            raise cannot_compile(error) from error
        yield


def _run_as_written(unet: nn.Module) -> None:
    for module in unet.modules():
        module._compiled_call_impl = None  # a bound method: the module would hold itself


def every_shape_compiled() -> AbstractContextManager[object]:
    """torch.compile gives a function up after 8 shapes, and a U-Net's blocks come in more."""
    import torch._dynamo  # takes a second, and most trainings do without

    config = torch._dynamo.config
    return config.patch({limit_of_shapes(config): 256})


def limit_of_shapes(config: Any) -> str:
    """What torch.compile's settings call the most shapes of a function: another name before
    PyTorch 2.6."""
    return "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"


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
