"""Progress in the host's own bar and console, with the loss curve; the user's interrupt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
from PIL import Image

from ....attndb.training.stage import StageTraining
from ....attndb.training.step_loss import StepLoss
from ....attndb.viz.loss_curve import loss_curve
from .preview import PreviewPictures
from .status import TrainingStatus

log = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0
_CURVE_EVERY_S = 2.0


class TrainingProgress:
    """An observer of training steps: moves the bar, shows the curve, lets Cancel stop the run."""

    def __init__(
        self,
        title: str,
        steps: int,
        pictures: PreviewPictures | None = None,
        trouble: Callable[[], str] = str,
    ) -> None:
        """`trouble`: why the work is not on disk at the moment; empty when it is."""
        self._status = TrainingStatus(steps, trouble)
        self._title = title
        self._steps = steps
        self._pictures = pictures
        self._bar = comfy.utils.ProgressBar(max(1, steps))
        self._start = self._logged = self._drawn = time.monotonic()
        self._first: int | None = None
        self._losses: list[StepLoss] = []

    def due(self, done: int) -> bool:
        """Whether a picture is. Raises the host's interrupt if the user pressed Cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        return self._pictures is not None and self._pictures.due(done)

    def __call__(self, loss: StepLoss, training: StageTraining) -> None:
        """Told after every step. Raises the host's interrupt if the user pressed Cancel."""
        self._losses.append(loss)
        done = loss.step + 1
        if self._first is None:
            self._first = loss.step
        now = time.monotonic()
        drawn = self._pictures is not None and self._pictures.after_step(done, training.vectors)
        if now - self._logged >= _LOG_EVERY_S or done in (self._first + 1, self._steps):
            self._logged = now
            self._log(loss, done, now)
        picture = None
        if drawn or now - self._drawn >= _CURVE_EVERY_S:
            self._drawn = now
            picture = ("JPEG", self._picture(), 768)
        self._status.after_step(loss, training)
        self._bar.update_absolute(done, max(1, self._steps), picture)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def _log(self, loss: StepLoss, done: int, now: float) -> None:
        rate = (done - (self._first or 0)) / max(1e-6, now - self._start)
        log.info(
            "%s: step %d/%d, loss %.4f + %.5f%s, %.2f it/s, %.0f s left",
            self._title,
            done,
            self._steps,
            loss.denoising,
            loss.regularization,
            f" + {loss.prior:.4f} (prior)" if loss.prior else "",
            rate,
            (self._steps - done) / rate,
        )

    def _picture(self) -> Image.Image:
        """The loss curve, with the latest preview on its left."""
        curve = loss_curve(
            [loss.denoising for loss in self._losses],
            [loss.regularization for loss in self._losses],
            self._title,
            prior=[loss.prior for loss in self._losses],
        )
        latest = None if self._pictures is None else self._pictures.latest
        if latest is None:
            return curve
        width = round(latest.width * curve.height / latest.height)
        both = Image.new("RGB", (width + curve.width, curve.height))
        both.paste(latest.resize((width, curve.height), Image.Resampling.LANCZOS), (0, 0))
        both.paste(curve, (width, 0))
        return both


class EncodingProgress:
    """Told of every photo crop that is encoded ahead of a training; Cancel stops it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` are encoded. Raises the host's interrupt if the user pressed Cancel."""
        if done == 1:
            log.info("%s: encoding %d photo crops", self._title, total)
            self._bar = comfy.utils.ProgressBar(total)
        if self._bar is not None:
            self._bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()
