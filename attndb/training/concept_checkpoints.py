"""ConceptCheckpoints: concepts of a training that goes on, for whoever picks the best of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..artifacts.concept import TrainedConcept
from .step_loss import StepLoss
from .training import StageResult, Training

log = logging.getLogger(__name__)


class ConceptCheckpoints:
    """An observer that keeps a concept every so many steps; not after the last one, whose concept
    is the result."""

    def __init__(
        self,
        every: int,
        steps: int,
        made: Callable[[StageResult], TrainedConcept],
        keep: Callable[[TrainedConcept, int], None],
    ) -> None:
        """`every`: 0 keeps none. `keep` is told after how many steps a concept is."""
        self._every, self._steps = every, steps
        self._made, self._keep = made, keep

    def due(self, done: int) -> bool:
        """Whether a concept is kept after `done` steps."""
        return self._every > 0 and done < self._steps and done % self._every == 0

    def __call__(self, loss: StepLoss, training: Training) -> None:
        """Keeps one if it is due. A disk that does not take it is only warned of."""
        done = loss.step + 1
        if not self.due(done):
            return
        try:
            self._keep(self._made(training.result_now()), done)
        except OSError as error:
            log.warning("the concept of step %d was not kept: %s", done, error)
