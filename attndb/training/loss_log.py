"""LossLog: losses.jsonl of a run, one line per step."""

from __future__ import annotations

import contextlib
import json
import logging
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


def _line(loss: StepLoss) -> str:
    return json.dumps({"step": loss.step, "loss": loss.total, **loss.shares}) + "\n"
