"""Settings that are legal and take each other's effect away."""

from __future__ import annotations

from ..config.stage import StageConfig

_SEEN = 0.2
"""Share of where a stage began from which on the average is said to hold it."""
_UNSEEN = 0.02
"""The same that the average advised holds."""
_LORA_RATE = 1e-4
"""Usual for a LoRA."""
_WHOLE_RATE, _WHOLE_RATE_OF_LAYERS = 5e-6, 4e-5
"""Up to here a rate is taken for one of whole weights: of the U-Net, of some of its layers."""


def doubts(config: StageConfig) -> list[str]:
    """What a user would hardly want of a stage's settings, each with what to choose instead."""
    found = []
    own, steps, decay = config.optimizer, config.steps, config.ema_decay
    if steps and decay**steps > _SEEN:
        found.append(
            f"ema_decay {decay:g} over {steps} steps: {decay**steps:.0%} of the result is what the "
            f"stage began with; use at most {_UNSEEN ** (1 / steps):.3f}, or 0 for the last weights"
        )
    if steps and own.warmup_steps >= steps:
        found.append(
            f"warmup_steps {own.warmup_steps} with {steps} steps: the learning rate never gets to "
            f"{own.learning_rate:g}; a tenth of the steps is usual, or 0"
        )
    whole = _WHOLE_RATE if "unet" in config.trains else _WHOLE_RATE_OF_LAYERS
    if config.lora_rank and config.trains_denoiser and own.learning_rate <= whole:
        found.append(
            f"lora_rank {config.lora_rank} at a learning rate of {own.learning_rate:g}, which is "
            f"one of whole weights: the LoRA learns little; about {_LORA_RATE:g} is usual. The "
            "stage nodes have a rate; of Train Concept's presets choose lora or sdxl-lora"
        )
    if own.name == "AdamW schedule-free":
        if own.schedule != "constant":
            found.append(
                f"{own.name} averages its weights instead of lowering the rate: with schedule "
                f"{own.schedule} its last steps hardly count; choose constant"
            )
        if decay:
            found.append(f"{own.name} averages by itself, and ema_decay replaces that: use 0")
    return found
