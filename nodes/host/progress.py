"""Progress in the host's own bar and console; the user's interrupt."""

from __future__ import annotations

import logging
import time

import comfy.model_management
import comfy.utils

from ...attndb.trainer import StepLoss

log = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0


class TrainingProgress:
    """An observer of training steps: moves the bar, logs now and then, lets Cancel stop the run."""

    def __init__(self, title: str, steps: int) -> None:
        self._title = title
        self._steps = steps
        self._bar = comfy.utils.ProgressBar(max(1, steps))
        self._start = self._logged = time.monotonic()

    def __call__(self, loss: StepLoss) -> None:
        """Told after every step. Raises the host's interrupt if the user pressed Cancel."""
        done = loss.step + 1
        now = time.monotonic()
        if now - self._logged >= _LOG_EVERY_S or done in (1, self._steps):
            self._logged = now
            rate = done / max(1e-6, now - self._start)
            log.info(
                "%s: step %d/%d, loss %.4f + %.5f, %.2f it/s, %.0f s left",
                self._title,
                done,
                self._steps,
                loss.denoising,
                loss.regularization,
                rate,
                (self._steps - done) / rate,
            )
        self._bar.update_absolute(done, max(1, self._steps))
        comfy.model_management.throw_exception_if_processing_interrupted()
