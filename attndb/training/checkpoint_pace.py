"""CheckpointPace: large checkpoints are written less often than asked for where they cost much."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from torch import Tensor

from .background_write import LEAST

SHARE = 0.02
"""Of the training's time, what large checkpoints may hold it up for."""
AT_STAKE_S = 600.0
"""Most work that waits for its checkpoint for that reason."""


class CheckpointPace:
    """When the next checkpoint may be written. Small ones (under 64 MB) whenever they are due; a
    large one once its wait has paid for what the last one took, at the latest after ten minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self.now = clock
        self._not_before = float("-inf")

    def held_up(self, since: float, tensors: Mapping[str, Tensor]) -> None:
        """A checkpoint of these tensors has kept the training waiting since then."""
        size = sum(value.nbytes for value in tensors.values())
        now = self.now()
        pause = min((now - since) / SHARE, AT_STAKE_S) if size >= LEAST else 0.0
        self._not_before = now + pause

    @property
    def puts_off(self) -> bool:
        """Whether one that is due now waits for the next time."""
        return self.now() < self._not_before
