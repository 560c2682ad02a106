"""The loss of a training step, and the error of a loss that is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite; the message says at which step and which part of it."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of one step, measured before its update."""

    step: int
    """0-based."""
    denoising: float
    """L_diff."""
    regularization: float
    """L_reg, weights included."""
    prior: float = 0.0
    """L_diff of the prior samples, weight included; 0 without prior preservation."""

    @property
    def total(self) -> float:
        """L = L_diff + L_reg, plus the prior's part."""
        return self.denoising + self.regularization + self.prior

    @property
    def parts(self) -> list[float]:
        """The values for files: [denoising, regularization], and the prior's where it has one."""
        return [self.denoising, self.regularization, *([self.prior] if self.prior else [])]

    def check_finite(self) -> None:
        """TrainingDivergedError, with step and part, if a part is NaN or infinite."""
        names = ("denoising", "attention map", "prior preservation")
        for part, value in zip(names, self.parts, strict=False):
            if not math.isfinite(value):
                raise TrainingDivergedError(
                    f"step {self.step + 1}: the {part} loss is {value}. The last good checkpoint "
                    "is kept. Lower the learning rate, or set precision to fp32"
                )


@dataclass(frozen=True)
class PendingLoss:
    """Loss of one step that may still be on its way: reading it waits for the device."""

    step: int
    parts: Tensor
    """(micro-batches, 3): L_diff, L_reg and the prior's part."""

    def read(self) -> StepLoss:
        """The loss. TrainingDivergedError if it is not finite."""
        loss = StepLoss(self.step, *self.parts.double().sum(dim=0).tolist())
        loss.check_finite()
        return loss
