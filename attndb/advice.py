"""Which settings make a stage fit into the memory that is free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .config import StageConfig
from .memory import MemoryEstimate

Estimator = Callable[[StageConfig], MemoryEstimate]


@dataclass(frozen=True)
class _Remedy:
    text: str
    config: StageConfig


def advice(now: MemoryEstimate, estimator: Estimator, config: StageConfig, free: int) -> str:
    """What to set so that a stage that needs `now`, more than the `free` bytes, fits into them.

    Tried in order, estimated anew each time: what leaves the result as it is (the largest
    micro_batch, gradient checkpointing, then both), then what changes it (low_memory, 8-bit
    states, a LoRA). What touches activations alone is not tried where the rest is too much.
    """
    together = list(_together(config))
    if now.total - now.activations < free:
        texts = [_smaller_parts(estimator, config, free), _checkpointing(estimator, config, free)]
        if any(texts):
            return f"may not fit: {' or '.join(text for text in texts if text)}"
    elif len(together) > 1:
        together = together[1:]
    for remedy in together:
        needed = estimator(remedy.config)
        if needed.fits(free):
            return f"may not fit: {_said(remedy, needed)}"
    return (
        f"will not fit: even if you {remedy.text} it needs about "
        f"{(needed.total + needed.reserve) / 1e9:.1f} GB; lower the resolution, close what else "
        "uses the device, or train on a larger one"
    )


def _fitting(estimator: Estimator, remedies: Iterator[_Remedy], free: int) -> str:
    """The first remedy that fits, with what it needs then; empty if none does."""
    for remedy in remedies:
        needed = estimator(remedy.config)
        if needed.fits(free):
            return _said(remedy, needed)
    return ""


def _said(remedy: _Remedy, needed: MemoryEstimate) -> str:
    return f"{remedy.text} (about {needed.total / 1e9:.1f} GB)"


def _smaller_parts(estimator: Estimator, config: StageConfig, free: int) -> str:
    """The largest half, quarter, ... of the batch that fits."""

    def remedies() -> Iterator[_Remedy]:
        size = min(config.micro_batch or config.batch_size, config.batch_size)
        while size > 1:
            size = (size + 1) // 2
            yield _Remedy(f"set micro_batch to {size}", config.with_(micro_batch=size))

    return _fitting(estimator, remedies(), free)


def _checkpointing(estimator: Estimator, config: StageConfig, free: int) -> str:
    if config.gradient_checkpointing or config.low_memory:
        return ""
    text = "turn on gradient_checkpointing in Training Options"
    remedy = _Remedy(text, config.with_(gradient_checkpointing=True))
    return _fitting(estimator, iter([remedy]), free)


def _together(config: StageConfig) -> Iterator[_Remedy]:
    """All that leaves the result alone, then what does not; the last needs the least."""
    least = config.with_(micro_batch=1, gradient_checkpointing=True)
    text = "set micro_batch to 1 and turn on gradient_checkpointing in Training Options"
    yield _Remedy(text, least)
    if config.trains == "embedding":
        return
    low = _low_memory(config)
    if low is not None:
        text = "turn on low_memory in Training Options"
        yield _Remedy(text, low)
        if not config.lora_rank:
            yield _Remedy(f"{text}, with lora_rank 16", low.with_(lora_rank=16))
        least, text = low.with_(micro_batch=1), f"set micro_batch to 1 and {text}"
    elif config.optimizer.name == "AdamW" and not (config.lora_rank or config.low_memory):
        optimizer = replace(config.optimizer, name="AdamW 8-bit")
        yield _Remedy(
            f"{text}, with optimizer AdamW 8-bit (needs bitsandbytes)",
            least.with_(optimizer=optimizer),
        )
    if config.lora_rank == 0 or config.lora_rank > 16:
        yield _Remedy(f"{text}, with lora_rank 16", least.with_(lora_rank=16))


def _low_memory(config: StageConfig) -> StageConfig | None:
    """With low_memory, where that is new and goes with the rest."""
    if config.low_memory:
        return None
    try:
        return config.with_(low_memory=True)
    except ValueError:
        return None
