"""Told: an observer of a training that is one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attndreambooth.attndb.training.callback import NoCallback


class Told(NoCallback):
    """Calls `function(loss, training)` after every step."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self.function = function

    def __call__(self, loss: Any, training: Any) -> None:
        self.function(loss, training)
