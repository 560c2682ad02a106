"""The line of text under a running node: where a training is, how fast, what went wrong."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from ....attndb.training.step_loss import StepLoss
from ....attndb.training.training import Training
from .plan import NodePlan
from .running_server import running_server

log = logging.getLogger(__name__)

_EVERY_S = 0.5
_WINDOW_S = 30.0
_MOMENT_S = 0.02
_FOR_THE_PAGE = str.maketrans(
    {"\n": "  \n", "<": "&lt;", ">": "&gt;"} | {sign: f"&#{ord(sign)};" for sign in r"&*_`\["}
)
"""The page takes such a text for HTML, Nodes 2.0 for Markdown: there is no `<my-dog>` to be seen,
and a name could hold a script."""


def show_text(text: str) -> bool:
    """Shows a text as it is under the node that is running, in the page that asked for it; whether
    there is one and this host can."""
    server = running_server()
    send = getattr(server, "send_progress_text", None)
    node, client = running_node(), getattr(server, "client_id", None)
    if send is None or node is None or client is None:  # without a client it goes to every page
        return False
    try:
        send(text.translate(_FOR_THE_PAGE), node, client)
    except Exception:  # a front end that cannot be reached must not stop a training
        log.debug("the text under the node could not be sent", exc_info=True)
        return False
    return True


def in_a_subgraph() -> bool:
    """Whether the node that is running is inside a subgraph: the page shows its pictures on the
    subgraph's node as well, and its texts only where one looks inside."""
    return ":" in (running_node() or "")


def running_node() -> str | None:
    """The execution id of the node that is running, `5:3` inside a subgraph; None if unknown."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        context = None
    else:
        context = get_executing_context()
    if context is not None:
        return str(context.node_id)
    last = getattr(running_server(), "last_node_id", None)
    return None if last is None else str(last)


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
    """Writes the state of a node's present stage under it, at most twice a second.

    What a user should not miss (a resume, a halved micro-batch, work that could not be saved)
    is shown at once, and stays in the text.
    """

    def __init__(
        self,
        plan: NodePlan,
        trouble: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trouble`: why the work is not on disk at the moment; empty when it is."""
        self._plan, self._trouble, self._clock = plan, trouble, clock
        self._pace = Pace(clock)
        self._notes = plan.notes
        self._micro_batch = 0
        self._recomputes = ""
        self._shown = -_EVERY_S
        self._said: list[str] = []
        self.line = ""
        """Of the last step: how far, how fast, how long yet."""

    def after_step(self, loss: StepLoss, training: Training) -> None:
        """Told after every step."""
        if not self._micro_batch:
            self._micro_batch = training.config.micro_batch or training.config.batch_size
            self._recomputes = training.config.recomputes
            if training.resumed_after:  # it may be told of the step before once more
                at = min(training.resumed_after + 1, training.config.steps)
                self._notes.append(f"resumed at step {self._plan.before + at}")
        if training.micro_batch < self._micro_batch:
            self._notes.append(
                f"out of memory: micro-batch {self._micro_batch} -> {training.micro_batch}"
            )
            self._micro_batch = training.micro_batch
        if training.recomputes != self._recomputes:
            self._recomputes = training.recomputes
            self._notes.append(f"out of memory: gradient_checkpointing -> {self._recomputes}")
        plan, rate = self._plan, self._pace.step(loss.step + 1)
        plan.step(loss.step + 1, rate)
        self.line = step_line(plan, rate)
        notes = [*self._notes, *filter(None, [self._trouble()])]
        now, last = self._clock(), plan.done == plan.total
        if now - self._shown >= _EVERY_S or notes != self._said or last:
            self._shown, self._said = now, notes
            title = [plan.title] if len(plan.stages) > 1 else []
            # The front end shows two short lines and scrolls to the rest.
            show_text("\n".join([self.line, *notes, *title, loss_line(loss)]))


def step_line(plan: NodePlan, rate: float | None) -> str:
    """`step 280/660  2.41 it/s  2 min 38 s left`: of all that the node trains."""
    parts = [f"step {plan.done}/{plan.total}"]
    if rate is not None:
        parts.append(f"{rate:.2f} it/s" if rate >= 1 else f"{1 / rate:.1f} s/it")
    left = plan.left()
    if left is not None and plan.done < plan.total:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)


def encoding_line(plan: NodePlan, done: int, total: int, first: float | None) -> str:
    """`encoding photo 12/40  38 s left`; `first`: seconds until the rest is encoded. The time left
    is the node's, or, while no step tells the pace, that of the encoding and says so."""
    parts = [f"encoding photo crop {done}/{total}"]
    left = None if first is None else plan.left(first)
    if left is not None:
        parts.append(f"{duration(left)} left")
    elif first is not None:
        parts.append(f"{duration(first)} until step {plan.before + 1}")
    return "  ".join(parts)


def loss_line(loss: StepLoss) -> str:
    """`loss 0.1213 + 0.00210`: the denoising loss, the attention map's where the method has one,
    and others with their names, ` + 0.1034 (prior)`."""
    parts = []
    for number, (name, value) in enumerate(loss.shares.items()):
        said = f"{value:.5f}" if name == "attention_map" else f"{value:.4f}"
        unnamed = number == 0 or name == "attention_map"
        parts.append(said if unnamed else f"{said} ({name.replace('_', ' ')})")
    return f"loss {' + '.join(parts)}"


def stopped_text(plan: NodePlan, failed: bool = False) -> str:
    """What a node says after Cancel, or after an error: what is kept, and how to go on."""
    cause, where = "stopped by an error" if failed else "stopped", f"{plan.done} of {plan.total}"
    if trouble := plan.trouble():
        return f"{cause} at step {where}\n{trouble}"
    if not plan.done:
        return f"{cause} before a step was made; run again to go on"
    if failed:
        return f"{cause} at step {where}; what was done is kept"
    return f"kept at step {where}; run again to go on"


def finished_text(plan: NodePlan, words: str) -> str:
    """What a node says at its end: the words to write in prompts, and where the work lies."""
    took = f"done in {duration(plan.elapsed)}" if plan.trained else "finished before"
    where = f"kept in {plan.folder}" + (f": {plan.kept}" if plan.kept else "")
    kept = plan.not_kept or f"{where}; Save Concept makes files of it"
    return "\n".join([f"{took}; write: {words}", kept, *plan.notes])
