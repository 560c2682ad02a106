"""Callback: whoever looks at a training, which knows nothing of it."""

from __future__ import annotations

from typing import Protocol

from .step_loss import StepLoss
from .training import Training


class Callback(Protocol):
    """Told of every finished step; may raise to stop the training."""

    def due(self, done: int) -> bool:
        """Asked right after each step, when `done` are queued on the device: whether to wait for
        them, so that the training can be looked at as it is then."""
        ...

    def __call__(self, loss: StepLoss, training: Training) -> None:
        """The loss of a step, in order. The training is at this very step only if it was due."""
        ...


class NoCallback:
    """Looks at nothing."""

    def due(self, done: int) -> bool:
        return False

    def __call__(self, loss: StepLoss, training: Training) -> None:
        pass


class Callbacks:
    """Several callbacks as one."""

    def __init__(self, *callbacks: Callback) -> None:
        self._callbacks = callbacks

    def due(self, done: int) -> bool:
        return any([callback.due(done) for callback in self._callbacks])

    def __call__(self, loss: StepLoss, training: Training) -> None:
        for callback in self._callbacks:
            callback(loss, training)
