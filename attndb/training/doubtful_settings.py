"""Settings that are legal and take each other's effect away."""

from __future__ import annotations

from ..config.lora_instead import has_rate_of_whole_weights
from ..config.presets import paper
from ..config.stage import StageConfig

_SEEN = 0.2
"""Share of where a stage began from which on the average is said to hold it."""
_UNSEEN = 0.02
"""The same that the average advised holds."""
_LORA_RATE = 1e-4
"""Usual for a LoRA."""
_LATER_TIE = 1.0
"""From here on a weight of the regulariser is taken for one of stages 2 and 3 (2 and 5, where stage
1 has 0.1 and 0)."""


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
    if config.lora_rank and config.trains_denoiser and has_rate_of_whole_weights(config):
        found.append(
            f"lora_rank {config.lora_rank} at a learning rate of {own.learning_rate:g}, which is "
            f"one of whole weights: the LoRA learns little; about {_LORA_RATE:g} is usual. The "
            "stage nodes have a rate; of Train Concept's presets choose lora or sdxl-lora"
        )
    tie = config.regularization
    later = max(tie.mean_weight, tie.variance_weight) >= _LATER_TIE
    if config.traits.ties_maps and not config.trains_denoiser and later:
        mine, next_ = (_weights(stage) for stage in paper()[:2])
        found.append(
            f"stage {config.stage} has weights {_weights(config)} of the attention map regulariser "
            f"(published: {mine} here, {next_} in stages 2 and 3): so strong a tie can keep the "
            "word from learning. Leave both weights to each stage (-1 in Attention Map "
            "Regularization, left out in a file), and set strength"
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


def _weights(config: StageConfig) -> str:
    tie = config.regularization
    return f"{tie.mean_weight:g} / {tie.variance_weight:g}"
