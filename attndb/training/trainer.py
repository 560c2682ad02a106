"""train: steps of a method on a private model, kept safe by a run folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from traceback import clear_frames

from ..data.batch import BatchSource
from ..methods.method import Method
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .callback import Callback, NoCallback
from .compiler import cannot_compile, is_of_compiler
from .loss_table import LossTable
from .out_of_memory import does_not_fit, encoded, give_back, is_out_of_memory
from .ranks import Ranks
from .run import Run
from .step_loss import PendingLoss, StepLoss, TrainingDivergedError
from .training import StageResult, Training

log = logging.getLogger(__name__)

READ_EVERY_S = 0.5
"""Longest time between two readings of the loss from a card."""


def train(
    model: Model,
    method: Method,
    batches: BatchSource,
    start: Embeddings,
    callback: Callback | None = None,
    run: Run | None = None,
    ranks: Ranks | None = None,
    ends_early: Callable[[], bool] = lambda: False,
) -> StageResult:
    """Trains in place on the private model, from these vectors on, and returns what was learned.

    With a run, the training goes on where its checkpoint is, and whatever stops it (cancel, error)
    leaves a checkpoint; resumed, it gives the bytes of an uninterrupted one. On an error the model
    is left as it was at that moment: it is private, and its owner drops it.

    `ranks`: the processes that make it together, each with this very request; the first alone has
    the run. `ends_early`: asked after every step whether what was learned so far is the result; not
    of several processes.
    """
    with ExitStack() as entered:
        try:
            training = entered.enter_context(Training(model, method, start, ranks))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise does_not_fit(model.device, method.config) from error
            raise
        progress = _Progress(training, callback or NoCallback(), run)
        try:
            progress.show_the_last_step()
            while progress.done < training.config.steps:
                step = progress.done
                try:
                    batch = training.ranks.together(
                        lambda step=step: encoded(
                            lambda: batches[step], model.device, training.config
                        )
                    )
                    loss = training.step(step, batch)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        if is_of_compiler(error):
                            raise cannot_compile(error) from error
                        raise
                    clear_frames(error.__traceback__)  # they hold the activations of the step
                    done = training.after_out_of_memory()
                    give_back(model.device)
                    log.warning("step %d: out of memory; %s", step + 1, done)
                    continue
                progress.add(loss)
                if not training.ranks.many and ends_early():
                    progress.end()
                    break
            training.ranks.end()
            if run is not None:
                run.before_result(training)
            return training.result()
        except BaseException:
            try:
                training.ranks.stop()
            finally:
                progress.rescue()
            raise


class _Progress:
    """The losses of a training: which are read, who is told of them, what is kept."""

    def __init__(self, training: Training, callback: Callback, run: Run | None) -> None:
        self._training, self._callback, self._run = training, callback, run
        losses = run.restore(training) if run is not None else []
        training.resume_from(_begun_alike(training, losses) if training.ranks.many else losses)
        self._pending: list[PendingLoss] = []
        self._read_at = time.monotonic()

    @property
    def done(self) -> int:
        return len(self._training.losses) + len(self._pending)

    def show_the_last_step(self) -> None:
        """Of a training that goes on: it may have been stopped before what is due after that step,
        or after all steps, was made."""
        training = self._training
        if not training.losses:
            return
        if self._callback.due(self.done) or self.done == training.config.steps:
            self._callback(training.losses[-1], training)

    def add(self, loss: PendingLoss) -> None:
        """A step is queued on the device; its loss, and those before it, are read if due."""
        self._pending.append(loss)
        if (
            self._callback.due(self.done)
            or self.done == self._training.config.steps
            or (self._run is not None and self._run.due(self.done))
            or self._training.model.device.type == "cpu"
            or time.monotonic() - self._read_at > READ_EVERY_S
        ):
            self._read()

    def end(self) -> None:
        """No step comes any more: all losses are read."""
        if self._pending:
            self._read()
        log.info("ended at step %d of %d", self.done, self._training.config.steps)

    def _read(self) -> None:
        training = self._training
        new = len(training.losses)
        self._take()
        if self._run is not None:
            self._run.after_steps(training, new)
        for loss in training.losses[new:]:
            self._callback(loss, training)

    def _take(self) -> None:
        while self._pending:
            self._training.read(self._pending[0])
            self._pending.pop(0)
        self._read_at = time.monotonic()

    def rescue(self) -> None:
        """Keeps what can be kept of a training that is being stopped. What the device does not give
        any more (it is full, or gone) must not hide why: the last checkpoint stays."""
        if self._run is None:
            return
        try:
            with suppress(TrainingDivergedError):  # nothing of it is kept
                self._take()
            self._run.rescue(self._training)
        except RuntimeError as error:
            log.error("step %d: not saved, the last checkpoint stays: %s", self.done, error)


def _begun_alike(training: Training, losses: list[StepLoss]) -> list[StepLoss]:
    """All processes begin where the first one's checkpoint is, with these losses behind it."""
    ranks, state = training.ranks, None
    if ranks.first:
        tensors, plain = training.state()
        state = tensors, [plain, LossTable.of(losses).as_json(), str(len(losses))]
    tensors, (plain, said, count) = ranks.of_first(state)
    if ranks.first:
        return losses
    training.restore(tensors, plain)
    return LossTable.from_json(said, count).losses
