"""MemoryFallback: what a training gives up, step by step, when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from traceback import clear_frames
from typing import TypeVar

import torch

from ..config.choices import Checkpointing
from ..config.lora_instead import lora_instead
from ..config.stage import StageConfig

Given = TypeVar("Given")

_EIGHT_BIT = "choose an 8-bit optimizer in Training Options"
_SAID = (
    "CUDA error: out of memory",
    "HIP error: out of memory",
    "STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN: a handle or a workspace beside PyTorch's allocator
    "MPS backend out of memory",
    "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",  # Intel's driver
    "VRAM grow failed",  # comfy-aimdo, where a host streams weights through a buffer of its own
    "There is not enough GPU video memory available",  # DirectML
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
)
"""Not among them: cuDNN's "unable to find an engine to execute this computation". PyTorch says it
after any engine's error, of memory or because the card has none for the precision, and no longer
knows which."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device has no memory left: PyTorch's class for it is that of its
    own allocator alone, drivers and libraries say it in words."""
    said = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in said for words in _SAID)


def does_not_fit(device: torch.device, config: StageConfig) -> ValueError:
    """The error to raise where there is no room even for what a training begins with."""
    return ValueError(
        f"out of memory before the first step: the model, as this stage keeps it, does not fit on "
        f"{device}. Close what else uses the device and queue again. Or "
        f"{' or '.join([*_smaller(config), 'train on a larger one'])}"
    )


def give_back(device: torch.device) -> None:
    """Gives the driver what PyTorch keeps for later. Its allocator would do that for itself alone;
    cuBLAS, cuDNN and the driver ask for memory beside it, and are told that there is none."""
    empty = getattr(getattr(torch, device.type, None), "empty_cache", None)
    if empty is not None:
        with suppress(RuntimeError):  # a device that is gone: the next error says so
            empty()


def encoded(call: Callable[[], Given], device: torch.device, config: StageConfig) -> Given:
    """What `call` gives, which may have photos to encode; it is made a second time if a library
    found no memory beside what PyTorch keeps for later. ValueError with what helps if there is none
    then: one photo is encoded at a time, whatever the micro-batch."""
    again = False
    while True:
        try:
            return call()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            clear_frames(error.__traceback__)  # they hold what was made of the photo
            if again:
                raise _cannot_encode(device, config) from error
        give_back(device)
        again = True


def _cannot_encode(device: torch.device, config: StageConfig) -> ValueError:
    others = ["lower the resolution"]
    if device.type != "cpu":
        others = ["start ComfyUI with --cpu-vae", *others]
    if config.data.encodes_between_steps:  # a pool is filled while the U-Net waits in main memory
        others = ["set latent_pool to -1", *others]
    return ValueError(
        "out of memory while a photo was encoded, where a smaller micro_batch does not help. What "
        f"was done is kept: close what else uses {device} and queue again to go on from it. Or "
        f"{' or '.join(others)}: that changes the result, so it starts from step 1"
    )


def _smaller(config: StageConfig) -> list[str]:
    """What makes the stage itself smaller. A LoRA at a rate of whole weights learns little, and
    a preset's rate cannot be typed."""
    low = config.with_low_memory()
    found = [] if low is None else ["turn on low_memory in Training Options"]
    lora = lora_instead(config)
    if lora is not None:
        found.append(
            f"train a LoRA (in Train Concept preset lora, sdxl-lora or micro-lora, in other nodes "
            f"{lora.text})"
        )
    return found


class MemoryFallback:
    """Halves the micro-batch, then computes all activations again. Neither changes the result but
    for rounding."""

    def __init__(self, config: StageConfig, recompute: Callable[[Checkpointing], None]) -> None:
        """`recompute`: sets how much is computed again."""
        self._config = config
        self._recompute = recompute
        self.micro_batch = config.micro_batch or config.batch_size
        self.recomputes: Checkpointing = config.recomputes

    def give_way(self, consistent: bool) -> str:
        """Asks for less from now on; what was done, for the log. ValueError if there is nothing
        left to do, or if memory ran out inside an update (not `consistent`)."""
        if not consistent:
            raise ValueError(
                "out of memory in the optimiser's update. The last checkpoint is kept: free memory "
                "(close what else uses the device) and queue again to go on from it. Or "
                f"{' or '.join([*_smaller(self._config), _EIGHT_BIT])}: that changes the result, "
                "so it starts from step 1"
            )
        if self.micro_batch > 1:
            self.micro_batch = (self.micro_batch + 1) // 2
            return f"micro-batch is now {self.micro_batch}"
        if self.recomputes != "full" and not self._config.compile:
            self.recomputes = "full"
            self._recompute(self.recomputes)
            return "gradient_checkpointing is now full"
        if self.recomputes != "full":
            raise ValueError(
                "out of memory with one sample at a time, and compiled blocks cannot begin to "
                "compute activations again. The last checkpoint is kept: set "
                "gradient_checkpointing to full in Training Options and queue again to go on from "
                "it"
            )
        raise ValueError(
            "out of memory with one sample at a time and gradient checkpointing. The last "
            "checkpoint is kept: close what else uses the device and queue again to go on from it. "
            f"Or {' or '.join([*_smaller(self._config), 'lower the resolution'])}: that changes "
            "the result, so it starts from step 1"
        )
