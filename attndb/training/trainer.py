"""train_stage: one stage of AttnDreamBooth on a private model, kept safe by its run folder."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import torch
from torch import Tensor

from ..config.stage import StageConfig
from ..data.batch import BatchSource
from ..models.protocol import Model
from .run import Run
from .stage import StageResult, StageTraining
from .step_loss import PendingLoss, StepLoss, TrainingDivergedError

log = logging.getLogger(__name__)

READ_EVERY_S = 0.5
"""Longest time between two readings of the loss from a card."""


class Callback(Protocol):
    """Told of every finished step; may raise to stop the training."""

    def due(self, done: int) -> bool:
        """Asked right after each step, when `done` are queued on the device: whether to wait for
        them, so that the training can be looked at as it is then."""
        ...

    def __call__(self, loss: StepLoss, training: StageTraining) -> None:
        """The loss of a step, in order. The training is at this very step only if it was due."""
        ...


class NoCallback:
    """An observer of nothing."""

    def due(self, done: int) -> bool:
        return False

    def __call__(self, loss: StepLoss, training: StageTraining) -> None:
        pass


class Callbacks:
    """Several observers as one."""

    def __init__(self, *observers: Callback) -> None:
        self._observers = observers

    def due(self, done: int) -> bool:
        return any([observer.due(done) for observer in self._observers])

    def __call__(self, loss: StepLoss, training: StageTraining) -> None:
        for observer in self._observers:
            observer(loss, training)


def train_stage(
    backend: Model,
    batches: BatchSource,
    config: StageConfig,
    vectors: Tensor,
    observer: Callback | None = None,
    run: Run | None = None,
) -> StageResult:
    """Trains one stage in place on the backend's private U-Net and returns what it learned.

    Stage 1 trains the vectors (V, D), stages 2 and 3 the U-Net. With a run, the training goes on
    where its checkpoint is, and whatever stops it (cancel, error) leaves a checkpoint; resumed, it
    gives the bytes of an uninterrupted one. On an error the U-Net is left as it was at that moment:
    it is private, and its owner drops it.
    """
    training = StageTraining(backend, config, vectors)
    progress = _Progress(training, observer or NoCallback(), run)
    try:
        with training:
            while progress.done < config.steps:
                step = progress.done
                try:
                    loss = training.launch(step, batches[step])
                except torch.OutOfMemoryError:
                    log.warning(
                        "step %d: out of memory; %s", step + 1, training.after_out_of_memory()
                    )
                    continue
                progress.launched(loss)
            return training.result(progress.losses)
    except BaseException:
        progress.rescue()
        raise


class _Progress:
    """The losses of a training: which are read, who is told of them, what is kept."""

    def __init__(self, training: StageTraining, observer: Callback, run: Run | None) -> None:
        self._training, self._observer, self._run = training, observer, run
        self.losses: list[StepLoss] = run.restore(training) if run is not None else []
        self._unread: list[PendingLoss] = []
        self._read_at = time.monotonic()

    @property
    def done(self) -> int:
        return len(self.losses) + len(self._unread)

    def launched(self, loss: PendingLoss) -> None:
        """A step is queued on the device; its loss, and those before it, are read if due."""
        self._unread.append(loss)
        self._training.settled = True
        if (
            self._observer.due(self.done)
            or self.done == self._training.config.steps
            or (self._run is not None and self._run.due(self.done))
            or self._training.backend.device.type == "cpu"
            or time.monotonic() - self._read_at > READ_EVERY_S
        ):
            self._read()

    def _read(self) -> None:
        new = len(self.losses)
        self._take()
        if self._run is not None:
            self._run.after_steps(self._training, self.losses, new)
        for loss in self.losses[new:]:
            self._observer(loss, self._training)

    def _take(self) -> None:
        while self._unread:
            self.losses.append(self._unread[0].read())
            self._unread.pop(0)
        self._read_at = time.monotonic()

    def rescue(self) -> None:
        """Keeps what can be kept of a training that is being stopped."""
        if self._run is None:
            return
        try:
            self._take()
        except TrainingDivergedError:
            self._training.settled = False  # it went on from there
        self._run.rescue(self._training, self.losses)
