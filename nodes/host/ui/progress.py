"""Progress in the host's own bar and console, with the loss curve; the user's interrupt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
from PIL import Image

from ....attndb.training.loss_table import LossTable
from ....attndb.training.step_loss import StepLoss
from ....attndb.training.training import Training
from ....attndb.viz.loss_curve import loss_curve
from .early_end import EARLY_END
from .plan import NodePlan, StagePlan
from .preview import PreviewPictures
from .status import (
    TrainingStatus,
    encoding_line,
    finished_text,
    in_a_subgraph,
    loss_line,
    show_text,
    stopped_text,
)
from .watcher import NoWatcher, Watcher

log = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0
_CURVE_EVERY_S = 2.0
_TEXT_EVERY_S = 0.5


class TrainingProgress:
    """An observer of training steps: moves the bar, shows the curve, lets Cancel stop the run."""

    def __init__(
        self,
        title: str,
        steps: int,
        pictures: PreviewPictures | None = None,
        trouble: Callable[[], str] = str,
        plan: NodePlan | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        """`trouble`: why the work is not on disk at the moment; empty when it is. `plan`: all that
        the node trains, of which this stage is the present one; without one this is all."""
        self._plan = plan or NodePlan([StagePlan(title, steps)])
        self._watcher = watcher or NoWatcher()
        self._plan.trouble = trouble
        self._status = TrainingStatus(self._plan, trouble)
        self._title = title
        self._steps = steps
        self._pictures = pictures
        self._bar = comfy.utils.ProgressBar(max(1, self._plan.total))
        self._start = self._logged = self._drawn = time.monotonic()
        self._first: int | None = None
        self._losses: list[StepLoss] = []

    def due(self, done: int) -> bool:
        """Whether a picture is. Raises the host's interrupt if the user pressed Cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        return self._pictures is not None and self._pictures.due(done)

    def __call__(self, loss: StepLoss, training: Training) -> None:
        """Told after every step. Raises the host's interrupt if the user pressed Cancel."""
        self._losses.append(loss)
        done = loss.step + 1
        if self._first is None:
            self._first = loss.step
        now = time.monotonic()
        drawn = self._pictures is not None and self._pictures.after_step(done, training)
        if now - self._logged >= _LOG_EVERY_S or done in (self._first + 1, self._steps):
            self._logged = now
            self._log(loss, done, now)
        self._status.after_step(loss, training)
        picture = None
        if drawn or now - self._drawn >= _CURVE_EVERY_S:
            self._drawn = now
            picture = ("JPEG", self._picture(), 768)
        self._watcher.step(self._plan, loss)
        self._bar.update_absolute(self._plan.done, max(1, self._plan.total), picture)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def _log(self, loss: StepLoss, done: int, now: float) -> None:
        rate = (done - (self._first or 0)) / max(1e-6, now - self._start)
        log.info(
            "%s: step %d/%d, %s, %.2f it/s, %.0f s left",
            self._title,
            done,
            self._steps,
            loss_line(loss),
            rate,
            (self._steps - done) / rate,
        )

    def _picture(self) -> Image.Image:
        """The loss curve, with the latest preview on its left, or a row of them above it; in a
        subgraph, whose node shows no text, also how far it is."""
        title = f"{self._title}   {self._status.line}" if in_a_subgraph() else self._title
        shares = LossTable.of(self._losses).curves
        curve = loss_curve(shares, title, first=1 + (self._first or 0))
        latest = None if self._pictures is None else self._pictures.latest
        if self._pictures is None or latest is None:
            return curve
        if self._pictures.several:
            height = max(1, round(latest.height * curve.width / latest.width))
            both = Image.new("RGB", (curve.width, height + curve.height))
            both.paste(latest.resize((curve.width, height), Image.Resampling.LANCZOS), (0, 0))
            both.paste(curve, (0, height))
            return both
        width = round(latest.width * curve.height / latest.height)
        both = Image.new("RGB", (width + curve.width, curve.height))
        both.paste(latest.resize((width, curve.height), Image.Resampling.LANCZOS), (0, 0))
        both.paste(curve, (width, 0))
        return both


class EncodingProgress:
    """Told of every photo crop that is encoded ahead of a training; Cancel stops it."""

    def __init__(
        self, title: str, plan: NodePlan | None = None, watcher: Watcher | None = None
    ) -> None:
        """`plan`: all that the node trains; without one only the encoding is told of."""
        self._title, self._plan, self._watcher = title, plan, watcher or NoWatcher()
        self._bar: comfy.utils.ProgressBar | None = None
        self._first = self._done = 0
        self._start = self._shown = 0.0

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` are encoded, some at a time. Raises the host's interrupt if the user
        pressed Cancel."""
        now = time.monotonic()
        bar = self._bar
        begins = bar is None or done <= self._done
        if bar is None or begins:
            log.info("%s: encoding %d photo crops", self._title, total)
            bar = self._bar = comfy.utils.ProgressBar(total)
            self._start = self._shown = now
            self._first = done
        self._done = done
        bar.update_absolute(done, total)
        if self._plan is not None and (begins or now - self._shown >= _TEXT_EVERY_S):
            self._shown = now
            since = done - self._first
            left = (total - done) * (now - self._start) / since if since else None
            show_text(encoding_line(self._plan, done, total, left))
            self._watcher.encoding(self._plan, done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()


class CountedProgress:
    """Told how many things of how many are done: moves the node's bar; Cancel stops the work."""

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        """Raises the host's interrupt if the user pressed Cancel."""
        bar = self._bar = self._bar or comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()


def stops_at_cancel(_done: int, _total: int) -> None:
    """Told as `CountedProgress` is, of work beside what the bar counts: Cancel stops it."""
    comfy.model_management.throw_exception_if_processing_interrupted()


class NodeProgress:
    """What a training node says when it ends: a context manager around its stages.

    plan = plan_of(titles, configs)
    with NodeProgress(plan) as node:
        for number, config in enumerate(configs):
            plan.begin(number)
            ...
        node.finished("<my-dog> dog")
    """

    def __init__(self, plan: NodePlan) -> None:
        self._plan = plan

    def __enter__(self) -> NodeProgress:
        return self

    def finished(self, words: str) -> None:
        """The last stage is done; `words`: what to write in prompts."""
        show_text(finished_text(self._plan, words))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """After Cancel or an error: what is kept, and how to go on."""
        EARLY_END.end()
        if error is not None:
            cancelled = isinstance(error, comfy.model_management.InterruptProcessingException)
            show_text(stopped_text(self._plan, failed=not cancelled))
