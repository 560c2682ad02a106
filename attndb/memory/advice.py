"""Which settings make a stage fit into the memory that is free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..config.choices import Checkpointing
from ..config.data import AUTO
from ..config.lora_instead import lora_instead
from ..config.stage import StageConfig
from .estimate import MemoryEstimate

Estimator = Callable[[StageConfig], MemoryEstimate]


def with_fitting_checkpointing(
    estimator: Estimator, config: StageConfig, free: int
) -> tuple[StageConfig, MemoryEstimate]:
    """The settings with `auto` gradient checkpointing chosen, and what they need: the level that
    costs the least time of those that fit into `free` bytes; where none does, the smallest."""
    if config.gradient_checkpointing != "auto":
        return config, estimator(config)
    levels: list[Checkpointing] = ["off", "light", "full"]
    tried: list[tuple[StageConfig, MemoryEstimate]] = []
    for level in levels[config.low_memory :]:
        chosen = config.with_(gradient_checkpointing=level)
        tried.append((chosen, estimator(chosen)))
        if tried[-1][1].fits(free):
            return tried[-1]
    return min(tried, key=lambda one: one[1].total)


def first_fitting(
    estimator: Estimator, choices: Sequence[StageConfig], free: int
) -> tuple[StageConfig, StageConfig, MemoryEstimate]:
    """The first of some settings that fits into `free` bytes; where none does, the one that needs
    least. Then the same with its gradient checkpointing chosen, and what that needs."""
    tried = []
    for config in choices:
        tried.append((config, *with_fitting_checkpointing(estimator, config, free)))
        if tried[-1][2].fits(free):
            return tried[-1]
    return min(tried, key=lambda one: one[2].total)


def advice(
    now: MemoryEstimate,
    estimator: Estimator,
    config: StageConfig,
    free: int,
    preset: str = "",
    pooled: Estimator | None = None,
) -> str:
    """What to set so that a stage that needs `now`, more than the `free` bytes, fits into them.
    `preset`: that its settings came from. `pooled`: of the same stage with a latent pool, where it
    has none and encodes photos between its steps.

    Tried in order, estimated anew each time: what leaves the result as it is (the largest
    micro_batch, gradient checkpointing, then both), then what changes it (a latent pool,
    low_memory, 8-bit states, a LoRA; then these with a pool). What touches activations alone is
    not tried where the rest is too much.
    """
    alike, *others = _together(config, preset)
    same = [alike] if alike.text else []
    if now.total - now.activations < free:
        tried = [_smaller_parts(config), _checkpointing(config)]
        texts = [_fitting(estimator, remedies, free) for remedies in tried]
        if any(texts):
            return f"may not fit: {' or '.join(text for text in texts if text)}"
    elif others:
        same = []
    together = [*same, *others]
    steps = [(estimator, one) for one in together]
    if pooled is not None:
        in_pool = [(pooled, _pooled(one)) for one in (_Remedy("", config), *together)]
        together = [remedy for _, remedy in in_pool]
        steps = [*steps[: len(same)], in_pool[0], *steps[len(same) :], *in_pool[1:]]
        estimator = pooled
    found = (_fitting(estimates, iter([one]), free) for estimates, one in steps)
    if text := next(filter(None, found), ""):
        return f"may not fit: {text}"
    even_if = ""
    if together:
        even_if = f"even if you {together[-1].text} "
        now = with_fitting_checkpointing(estimator, together[-1].config, free)[1]
    return (
        f"will not fit: {even_if}it needs about {(now.total + now.reserve) / 1e9:.1f} GB; lower "
        "the resolution, close what else uses the device, or train on a larger one"
    )


@dataclass(frozen=True)
class _Remedy:
    text: str
    config: StageConfig


def _fitting(estimator: Estimator, remedies: Iterator[_Remedy], free: int) -> str:
    """The first remedy that fits, with what it needs then; empty if none does."""
    for remedy in remedies:
        needed = with_fitting_checkpointing(estimator, remedy.config, free)[1]
        if needed.fits(free):
            return f"{remedy.text} (about {needed.total / 1e9:.1f} GB)"
    return ""


def _pooled(remedy: _Remedy) -> _Remedy:
    """The same with an automatic latent pool."""
    config = remedy.config.with_(data=replace(remedy.config.data, latent_pool=AUTO))
    return _Remedy(" and ".join(filter(None, ["set latent_pool to -1", remedy.text])), config)


def _smaller_parts(config: StageConfig) -> Iterator[_Remedy]:
    """Half, a quarter, ... of the batch at a time."""
    size = min(config.micro_batch or config.batch_size, config.batch_size)
    while size > 1:
        size = (size + 1) // 2
        yield _Remedy(f"set micro_batch to {size}", config.with_(micro_batch=size))


def _checkpointing(config: StageConfig) -> Iterator[_Remedy]:
    if config.gradient_checkpointing != "auto":
        yield _remedy(config, config.with_(gradient_checkpointing="auto"), _AUTO)


_AUTO = "set gradient_checkpointing to auto"


def _together(config: StageConfig, preset: str) -> Iterator[_Remedy]:
    """All that leaves the result alone, then what does not; the last needs the least."""
    options = () if config.gradient_checkpointing == "auto" else (_AUTO,)
    whole = config.with_(gradient_checkpointing="auto")
    least = whole.with_(micro_batch=1)
    yield _remedy(config, least, *options)
    if not config.trains_denoiser:
        return
    low = whole.with_low_memory()
    if low is not None:
        options += ("turn on low_memory",)
        yield _remedy(config, low, *options)
        if not config.lora_rank:
            yield from _as_lora(config, low, preset, options)
        least = low.with_(micro_batch=1)
    elif config.optimizer.name == "AdamW" and not (config.lora_rank or config.low_memory):
        smaller = least.with_(optimizer=replace(config.optimizer, name="AdamW 8-bit"))
        eight_bit = "choose optimizer AdamW 8-bit (needs bitsandbytes)"
        yield _remedy(config, smaller, *options, eight_bit)
    yield from _as_lora(config, least, preset, options)


def _as_lora(
    config: StageConfig, better: StageConfig, preset: str, options: tuple[str, ...]
) -> Iterator[_Remedy]:
    """The better settings as a LoRA, where there is one that learns."""
    lora = lora_instead(better, preset)
    if lora is not None:
        more = (lora.option,) if lora.option else ()
        yield _remedy(config, lora.config, *options, *more, node=lora.node)


def _remedy(config: StageConfig, better: StageConfig, *options: str, node: str = "") -> _Remedy:
    """From settings to better ones; a micro_batch of 1 is named by itself. `node`: what else to set
    in the training node."""
    parts = [node] if node else []
    if better.micro_batch == 1 and config.micro_batch != 1 and better.batch_size != 1:
        parts.append("set micro_batch to 1")
    if options:
        parts.append(f"in Training Options {' and '.join(options)}")
    return _Remedy(" and ".join(parts), better)
