"""Gradients of a training, where its optimiser would use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from attndreambooth.attndb.training.training import Training


def at_step(training: Training, does: Callable[[], object]) -> None:
    """Calls `does` in place of the optimiser's step: nothing is updated."""
    optimizer: Any = training.optimizer
    optimizer.step = does


def gradient(parameter: Tensor) -> Tensor:
    """The gradient that a parameter has got."""
    assert parameter.grad is not None
    return parameter.grad
