"""The loss of a training step, and the error of a loss that is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_SPOKEN = {"prior": "prior preservation"}


def spoken_name(name: str) -> str:
    """A share's name as people read it."""
    return _SPOKEN.get(name, name.replace("_", " "))


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite; the message says at which step and which part of it."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of one step, measured before its update."""

    step: int
    """0-based."""
    shares: Mapping[str, float]
    """The parts of its sum by the method's names and in its order, weights included: `denoising`
    (L_diff) first, then what the method has besides, as `attention_map` (L_reg)."""

    @property
    def total(self) -> float:
        """L: the sum of all parts."""
        return sum(self.shares.values())

    def check_finite(self) -> None:
        """TrainingDivergedError, with step and part, if a part is NaN or infinite."""
        for name, value in self.shares.items():
            if not math.isfinite(value):
                raise TrainingDivergedError(
                    f"step {self.step + 1}: the {spoken_name(name)} loss is {value}. Lower the "
                    "learning rate, or set precision to fp32: either changes the result, so this "
                    "stage starts from step 1. The last good checkpoint of these settings is kept"
                )


@dataclass(frozen=True)
class PendingLoss:
    """Loss of one step that may still be on its way: reading it waits for the device."""

    step: int
    names: tuple[str, ...]
    """Of the columns of `parts`."""
    parts: Tensor
    """(micro-batches, names): what each added to the loss."""

    def read(self) -> StepLoss:
        """The loss. TrainingDivergedError if it is not finite."""
        sums = self.parts.cpu().double().sum(dim=0).tolist()
        loss = StepLoss(self.step, dict(zip(self.names, sums, strict=True)))
        loss.check_finite()
        return loss
