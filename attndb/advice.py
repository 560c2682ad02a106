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


def advice(estimator: Estimator, config: StageConfig, free: int) -> str:
    """What to set so that a stage that does not fit into `free` bytes does.

    Tried in order, estimated anew each time: what leaves the result as it is (the largest
    micro_batch, gradient checkpointing, then both), then what changes it (low_memory, 8-bit
    states, a LoRA).
    """
    found = [_smaller_parts(estimator, config, free), _checkpointing(estimator, config, free)]
    texts = [text for text in found if text]
    if not texts:
        together = _fitting(estimator, _together(config), free)
        if not together:
            smallest = list(_together(config))[-1]
            size = estimator(smallest.config).total / 1e9
            return (
                f"will not fit: even if you {smallest.text} it needs about {size:.1f} GB; lower "
                "the resolution, close what else uses the device, or train on a larger one"
            )
        texts = [together]
    return f"may not fit: {' or '.join(texts)}"


def _fitting(estimator: Estimator, remedies: Iterator[_Remedy], free: int) -> str:
    """The first remedy that fits, with what it needs then; empty if none does."""
    for remedy in remedies:
        estimate = estimator(remedy.config)
        if estimate.fits(free):
            return f"{remedy.text} (about {estimate.total / 1e9:.1f} GB)"
    return ""


def _smaller_parts(estimator: Estimator, config: StageConfig, free: int) -> str:
    """The largest half, quarter, ... of the batch that fits."""
    whole = min(config.micro_batch or config.batch_size, config.batch_size)
    sizes = []
    while whole > 1:
        whole = (whole + 1) // 2
        sizes.append(whole)
    if len(sizes) > 1 and not estimator(config.with_(micro_batch=1)).fits(free):
        return ""  # then no larger one does
    remedies = (_Remedy(f"set micro_batch to {n}", config.with_(micro_batch=n)) for n in sizes)
    return _fitting(estimator, remedies, free)


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
        yield _Remedy("turn on low_memory in Training Options", low)
        least, text = (
            low.with_(micro_batch=1),
            "set micro_batch to 1 and turn on low_memory in Training Options",
        )
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
