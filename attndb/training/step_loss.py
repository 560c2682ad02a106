"""The loss of a training step, and the error of a loss that is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

_SPOKEN = {"attention_map": "attention map", "prior": "prior preservation"}


def short_name(name: str) -> str:
    """A share's name as people read it."""
    return name.replace("_", " ")


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite; the message says at which step and which part of it."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of one step, measured before its update."""

    step: int
    """0-based."""
    denoising: float
    """L_diff."""
    regularization: float = 0.0
    """L_reg, weights included."""
    prior: float = 0.0
    """L_diff of the prior samples, weight included; 0 without prior preservation."""
    others: Mapping[str, float] = field(default_factory=dict)
    """What a method has besides, by name."""

    @classmethod
    def of(cls, step: int, names: Sequence[str], values: Sequence[float]) -> StepLoss:
        """From shares by name, as methods give them."""
        shares = dict(zip(names, values, strict=True))
        denoising = shares.pop("denoising", 0.0)
        attention_map, prior = shares.pop("attention_map", 0.0), shares.pop("prior", 0.0)
        return cls(step, denoising, attention_map, prior, shares)

    @property
    def shares(self) -> dict[str, float]:
        """All parts by name."""
        return {
            "denoising": self.denoising,
            "attention_map": self.regularization,
            "prior": self.prior,
            **self.others,
        }

    @property
    def total(self) -> float:
        """L: the sum of all parts."""
        return self.denoising + self.regularization + self.prior + sum(self.others.values())

    @property
    def parts(self) -> list[float]:
        """The values for files: [denoising, attention map], then the prior's and others where there
        are some."""
        others = list(self.others.values())
        prior = [self.prior] if self.prior or others else []
        return [self.denoising, self.regularization, *prior, *others]

    def check_finite(self) -> None:
        """TrainingDivergedError, with step and part, if a part is NaN or infinite."""
        for name, value in self.shares.items():
            if not math.isfinite(value):
                said = _SPOKEN.get(name, short_name(name))
                raise TrainingDivergedError(
                    f"step {self.step + 1}: the {said} loss is {value}. Lower the learning rate, "
                    "or set precision to fp32: either changes the result, so this stage starts "
                    "from step 1. The last good checkpoint of these settings is kept"
                )


def others_of(losses: Sequence[StepLoss]) -> dict[str, list[float]]:
    """What some of these losses have besides the first three parts, as people read the names, a
    value for every step."""
    names = dict.fromkeys(name for loss in losses for name in loss.others)
    return {short_name(n): [loss.others.get(n, 0.0) for loss in losses] for n in names}


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
        loss = StepLoss.of(self.step, self.names, self.parts.cpu().double().sum(dim=0).tolist())
        loss.check_finite()
        return loss
