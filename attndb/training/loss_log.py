"""LossLog: losses.jsonl of a run, one line per step; and losses as text in other files."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from pathlib import Path

from ..artifacts.tensor_file import text_writer, write_whole
from .step_loss import StepLoss

log = logging.getLogger(__name__)


class LossLog:
    """A file that never holds a line of a step that the training has not done. A disk that does not
    take it is a warning: checkpoint and result hold the losses too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complete = True

    def begin(self, losses: list[StepLoss]) -> None:
        """A training starts with these behind it: lines of a killed one beyond them go."""
        if losses or self._path.exists():
            self._complete = False
            self.append(losses, len(losses))

    def append(self, losses: list[StepLoss], logged: int) -> None:
        """Adds those from number `logged` on; after a failure all, so that none is missing."""
        try:
            if self._complete:
                self._add(losses[logged:])
            else:
                text = "".join(_line(loss) for loss in losses)
                write_whole({self._path: text_writer(text)})
                self._complete = True
        except OSError as error:
            if self._complete:
                log.warning("%s: losses are not written: %s", self._path, error.strerror or error)
            self._complete = False

    def finish(self, losses: list[StepLoss]) -> None:
        """Writes the lines of a whole training."""
        self._complete = False
        self.append(losses, 0)

    def _add(self, losses: list[StepLoss]) -> None:
        before = self._path.stat().st_size if self._path.exists() else 0
        try:
            with self._path.open("a", encoding="utf-8") as handle:
                handle.writelines(_line(loss) for loss in losses)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._path, before)  # no half line
            raise


def losses_to_json(losses: list[StepLoss]) -> str:
    """The losses as text for a file's metadata: a list for each, or a table where a method has
    shares of its own."""
    return json.dumps([loss.shares if loss.others else loss.parts for loss in losses])


def losses_from_json(text: str, steps: str) -> list[StepLoss]:
    """The inverse of `losses_to_json`; `steps`: how many there have to be. ValueError if the text
    is not such a list."""
    entries = json.loads(text)
    if not isinstance(entries, list) or str(len(entries)) != steps:
        raise ValueError(f"it holds no list of {steps} losses")
    losses = []
    for step, entry in enumerate(entries):
        named = isinstance(entry, dict)
        values = list(entry.values()) if named else entry
        if not isinstance(values, list) or not all(_is_number(value) for value in values):
            raise ValueError("a loss in it is not a finite number")
        if not named and not 2 <= len(values) <= 3:
            raise ValueError("a loss in it has too few or too many parts")
        losses.append(StepLoss.of(step, list(entry), values) if named else StepLoss(step, *values))
    return losses


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _line(loss: StepLoss) -> str:
    entry = {
        "step": loss.step,
        "loss": loss.total,
        "denoising": loss.denoising,
        "attention_map": loss.regularization,
    }
    if loss.prior:
        entry["prior"] = loss.prior
    return json.dumps({**entry, **loss.others}) + "\n"
