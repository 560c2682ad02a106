"""How gradients become updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from .choices import OptimizerName, Schedule, require, require_choice


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates. The defaults are the published recipe's."""

    learning_rate: float
    """Step size; the peak of a schedule. Prodigy finds its own: give it 1. With a rate of
    AdamW's it would hardly move in hundreds of steps: below 0.01 it is refused."""
    name: OptimizerName = "AdamW"
    """Published: AdamW. The others come from optional packages."""
    schedule: Schedule = "constant"
    """Course of the rate over the stage, after the warm-up."""
    warmup_steps: int = 0
    """Steps over which the rate rises from 0."""
    clip_norm: float = 0.0
    """Largest L2 norm of the whole gradient; 0 does not clip, as published."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 1e-2
    """Decoupled decay, applied to everything that is trained (the embedding included)."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "must be above 0")
        require_choice("optimizer", self.name, get_args(OptimizerName))
        if self.name == "Prodigy":
            own = "Prodigy finds the rate itself and multiplies it by this: use 1"
            require(self.learning_rate >= 0.01, "learning_rate", self.learning_rate, own)
        require_choice("schedule", self.schedule, get_args(Schedule))
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "use 0 or more")
        require(self.clip_norm >= 0, "clip_norm", self.clip_norm, "use 0 or more")
        require(self.eps > 0, "eps", self.eps, "must be above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "use 0 or more")
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "betas",
            self.betas,
            "two numbers in [0, 1)",
        )
