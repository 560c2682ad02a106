"""The line of text under a running node: where a training is, how fast, what went wrong."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable

from ....attndb.training.stage import StageTraining
from ....attndb.training.step_loss import StepLoss

log = logging.getLogger(__name__)

_EVERY_S = 0.5
_WINDOW_S = 30.0
_MOMENT_S = 0.02


def show_text(text: str) -> bool:
    """Shows a text under the node that is running; whether this host can."""
    # A running server has loaded its own module; anywhere else there is nobody to show it to.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    send = getattr(server, "send_progress_text", None)
    node = _running_node(server)
    if send is None or node is None:
        return False
    try:
        send(text, node)
    except Exception:  # a front end that cannot be reached must not stop a training
        log.debug("the text under the node could not be sent", exc_info=True)
        return False
    return True


def _running_node(server: object) -> str | None:
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        return getattr(server, "last_node_id", None)
    context = get_executing_context()
    return getattr(server, "last_node_id", None) if context is None else context.node_id


def duration(seconds: float) -> str:
    """Seconds for people: `38 s`, `2 min 38 s`, `1 h 5 min`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


class Pace:
    """Steps per second over the last half minute: what the remaining time is reckoned with.

    The first step of a session is not counted: it encodes, allocates and compiles.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()
        self._rate: float | None = None

    def step(self, done: int) -> float | None:
        """Notes that `done` steps are done; steps per second, None when nothing can be said yet.

        From a card the losses of several steps come at one moment: they are one mark, which counts
        when the next one tells that it is whole.
        """
        now = self._clock()
        if self._marks and now - self._marks[-1][0] < _MOMENT_S:
            self._marks[-1] = (self._marks[-1][0], done)
            return self._rate
        if len(self._marks) > 1:
            (start, before), (end, after) = self._marks[0], self._marks[-1]
            self._rate = (after - before) / (end - start)
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()
        return self._rate


class TrainingStatus:
    """Writes the state of a training under its node, at most twice a second.

    What a user should not miss (a resume, a halved micro-batch, work that could not be saved)
    is shown at once, and stays in the text.
    """

    def __init__(
        self,
        steps: int,
        trouble: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trouble`: why the work is not on disk at the moment; empty when it is."""
        self._steps, self._trouble, self._clock = steps, trouble, clock
        self._pace = Pace(clock)
        self._notes: list[str] = []
        self._micro_batch = 0
        self._recomputes = ""
        self._shown = -_EVERY_S
        self._said: list[str] = []

    def after_step(self, loss: StepLoss, training: StageTraining) -> None:
        """Told after every step."""
        if not self._micro_batch:
            self._micro_batch = training.config.micro_batch or training.config.batch_size
            self._recomputes = training.config.recomputes
            if loss.step:
                self._notes.append(f"resumed at step {loss.step + 1}")
        if training.micro_batch < self._micro_batch:
            self._notes.append(
                f"out of memory: micro-batch {self._micro_batch} -> {training.micro_batch}"
            )
            self._micro_batch = training.micro_batch
        if training.recomputes != self._recomputes:
            self._recomputes = training.recomputes
            self._notes.append(f"out of memory: gradient_checkpointing -> {self._recomputes}")
        rate = self._pace.step(loss.step + 1)
        notes = [*self._notes, *filter(None, [self._trouble()])]
        now, done = self._clock(), loss.step + 1
        if now - self._shown >= _EVERY_S or notes != self._said or done == self._steps:
            self._shown, self._said = now, notes
            # The front end shows two short lines and scrolls to the rest.
            show_text("\n".join([step_line(done, self._steps, rate), *notes, loss_line(loss)]))


def step_line(done: int, steps: int, rate: float | None) -> str:
    """`step 120/500  2.41 it/s  2 min 38 s left`."""
    parts = [f"step {done}/{steps}"]
    if rate is not None:
        parts.append(f"{rate:.2f} it/s" if rate >= 1 else f"{1 / rate:.1f} s/it")
        if done < steps:
            parts.append(f"{duration((steps - done) / rate)} left")
    return "  ".join(parts)


def loss_line(loss: StepLoss) -> str:
    """`loss 0.1213 + 0.00210`: the denoising loss + the attention map's (+ the prior's)."""
    prior = f" + {loss.prior:.4f} (prior)" if loss.prior else ""
    return f"loss {loss.denoising:.4f} + {loss.regularization:.5f}{prior}"
