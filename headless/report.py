"""Where a training is: JSON lines for programs, a bar for people."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..attndb.training.step_loss import StepLoss
from ..nodes.host.ui.plan import NodePlan
from ..nodes.host.ui.status import duration
from ..nodes.host.ui.watcher import Watcher

log = logging.getLogger(__name__)


class Report(Watcher, Protocol):
    """Told of all that becomes of the subjects of a file."""

    def begin(self, names: list[str]) -> None:
        """These subjects are trained, in this order."""
        ...

    def subject(self, name: str, number: int, stages: list[tuple[str, int]]) -> None:
        """A subject begins; its stages' titles and steps."""
        ...

    def saved(self, name: str, files: list[Path], trigger: str) -> None:
        """The subject is trained and saved."""
        ...

    def failed(self, error: str) -> None:
        """The subject could not be trained."""
        ...

    def stopped(self) -> None:
        """Somebody stops the program; what was done is kept."""
        ...

    def end(self, outcome: dict[str, list[str]]) -> None:
        """All is done: names of subjects by what became of them."""
        ...


class JsonLines:
    """A JSON object a line."""

    def __init__(self, out: IO[str]) -> None:
        self._out, self._subject = out, ""
        self._trained = False

    def begin(self, names: list[str]) -> None:
        self._write("begin", subjects=names)

    def subject(self, name: str, number: int, stages: list[tuple[str, int]]) -> None:
        self._subject = name
        named = [{"stage": title, "steps": steps} for title, steps in stages]
        self._tell("subject", number=number, stages=named, total=sum(n for _, n in stages))

    def encoding(self, plan: NodePlan, done: int, total: int) -> None:
        self._tell("encoding", stage=plan.title, crops=done, of=total)

    def step(self, plan: NodePlan, loss: StepLoss) -> None:
        self._trained, left = True, plan.left()
        self._tell(
            "step",
            stage=plan.title,
            step=loss.step + 1,
            done=plan.done,
            total=plan.total,
            loss={"total": loss.total, **loss.shares},
            seconds_left=None if left is None else round(left, 1),
        )

    def stage(self, plan: NodePlan) -> None:
        self._tell(
            "stage",
            stage=plan.title,
            folder=plan.folder,
            trained=self._trained,
            notes=[*plan.notes, *filter(None, [plan.not_kept])],
        )
        self._trained = False

    def saved(self, name: str, files: list[Path], trigger: str) -> None:
        self._tell("saved", name=name, files=[str(path) for path in files], trigger=trigger)

    def failed(self, error: str) -> None:
        self._tell("failed", error=error)

    def stopped(self) -> None:
        self._tell("stopped")

    def end(self, outcome: dict[str, list[str]]) -> None:
        self._write("end", **outcome)

    def _tell(self, event: str, **values: Any) -> None:
        self._write(event, subject=self._subject, **values)

    def _write(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()


class Bar:
    """A bar for every subject, and lines for what stays."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._bar: Any = None
        self._of = 0
        self._name = ""

    def begin(self, names: list[str]) -> None:
        self._of = len(names)

    def subject(self, name: str, number: int, stages: list[tuple[str, int]]) -> None:
        self._close()
        self._name = name
        label = f"{name} ({number}/{self._of})" if self._of > 1 else name
        total = sum(steps for _, steps in stages)
        self._bar = tqdm(
            total=total, desc=label, unit="step", file=self._out, dynamic_ncols=True, smoothing=0.05
        )

    def encoding(self, plan: NodePlan, done: int, total: int) -> None:
        self._bar.set_postfix_str(f"encoding photo crop {done}/{total}")

    def step(self, plan: NodePlan, loss: StepLoss) -> None:
        self._bar.set_postfix_str(f"{plan.title}, loss {loss.total:.4f}", refresh=False)
        self._to(plan.done)

    def stage(self, plan: NodePlan) -> None:
        self._to(plan.before + plan.steps)

    def saved(self, name: str, files: list[Path], trigger: str) -> None:
        seconds = self._bar.format_dict["elapsed"]
        self._close()
        self._say(f"{self._name}: done in {duration(seconds)}; write: {trigger}")
        for path in files:
            self._say(f"  {path}")

    def failed(self, error: str) -> None:
        self._close()
        self._say(f"{self._name}: FAILED: {error}")

    def stopped(self) -> None:
        self._close()
        self._say(f"{self._name}: stopped: start it again to go on from the last checkpoint")

    def end(self, outcome: dict[str, list[str]]) -> None:
        self._close()
        if self._of > 1 or outcome["failed"]:
            told = [f"{len(names)} {what}" for what, names in outcome.items() if names]
            self._say(", ".join(told).replace("_", " "))

    def _to(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


class Unfailing:
    """An output that ends no training: what it does not take (a full disk, a terminal that was
    closed) waits for its next line. A program that has stopped reading is an error still."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._told = False

    def write(self, text: str) -> None:
        self._tried(lambda: self._out.write(text))

    def flush(self) -> None:
        self._tried(self._out.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)

    def _tried(self, do: Callable[[], Any]) -> None:
        try:
            do()
        except BrokenPipeError:
            raise
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning(
                    "the output takes nothing (%s): the training goes on", error.strerror or error
                )


@contextmanager
def report(as_json: bool, out: IO[str] | None) -> Iterator[Report]:
    """JSON lines, or a bar that the log does not break; nothing without a place for it."""
    if out is None:
        with open(os.devnull, "w") as nowhere:
            yield JsonLines(nowhere)
        return
    if as_json:
        yield JsonLines(cast("IO[str]", Unfailing(out)))
        return
    with logging_redirect_tqdm():
        yield Bar(cast("IO[str]", Unfailing(sys.stderr if out.isatty() else out)))
