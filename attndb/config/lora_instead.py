"""LoraInstead: a stage of whole weights as a LoRA, and what a user sets to have it."""

from __future__ import annotations

from dataclasses import dataclass

from .presets import AS_LORA, LORA_FACTOR, PRESETS
from .stage import StageConfig

RANK = 16
"""What is advised where no preset has one."""
_WHOLE_RATE, _WHOLE_RATE_OF_LAYERS = 5e-6, 4e-5
"""Up to here a rate is taken for one of whole weights: of the U-Net, of some of its layers."""


@dataclass(frozen=True)
class LoraInstead:
    """A stage as a LoRA that learns."""

    config: StageConfig
    """Its settings, as far as memory asks for them."""
    node: str
    """What to set in the training node; empty: nothing."""
    option: str
    """What to set in Training Options; empty: nothing."""

    @property
    def text(self) -> str:
        """All of it."""
        option = f"in Training Options {self.option}" if self.option else ""
        return " and ".join(part for part in (self.node, option) if part)


def lora_instead(config: StageConfig, preset: str = "") -> LoraInstead | None:
    """A stage as a LoRA of rank 16 at most; None where there is none, or it is one already.
    `preset`: that the settings came from; where its rate is in use, its own LoRA is named."""
    if not config.trains_denoiser or config.reparametrized or 0 < config.lora_rank <= RANK:
        return None
    if preset in AS_LORA and _rate(config) == _rate(PRESETS[preset]()[config.stage - 1]):
        own = PRESETS[AS_LORA[preset]]()[config.stage - 1]
        thin = config.with_(lora_rank=own.lora_rank, batch_size=own.batch_size)
        option = f"set lora_rank to {own.lora_rank}" if config.lora_rank else ""
        return LoraInstead(thin, f"choose preset {AS_LORA[preset]}", option)
    thin, node = config.with_(lora_rank=RANK), ""
    if has_rate_of_whole_weights(config):
        node = f"set learning_rate to {LORA_FACTOR * _rate(config):g}"
    return LoraInstead(thin, node, f"set lora_rank to {RANK}")


def has_rate_of_whole_weights(config: StageConfig) -> bool:
    """Whether a LoRA would learn little at the stage's rate."""
    whole = _WHOLE_RATE if "unet" in config.trains else _WHOLE_RATE_OF_LAYERS
    return _rate(config) <= whole


def _rate(config: StageConfig) -> float:
    return config.optimizer.learning_rate
