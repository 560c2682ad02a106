"""What is left of a subject's training that no file took: said in its error, where it is read.

A server holds a finished training in memory until it is saved; this program ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..attndb.config.printable import printable
from ..attndb.training.run_files import checkpoint_steps


class NotSavedError(OSError):
    """The subject is trained, and its concept's files could not be written."""

    def __init__(self, cause: OSError, folder: Path) -> None:
        """`folder`: of the training of its last stage."""
        super().__init__(str(cause))
        self.folder = folder


def what_is_left(error: Exception, unkept: Sequence[Path]) -> str:
    """What to add to the error: which finished trainings end with this program, where the others
    are. `unkept`: folders of this subject's trainings that could not take the result either."""
    text = ""
    if lost := [f"{printable(folder)} ({_checkpoint(folder)})" for folder in unkept]:
        text = (
            f". What was trained is in no file and ends with this program: {', '.join(lost)} could "
            "not take the result either. Make room there or allow writing, and start it again"
        )
    if isinstance(error, NotSavedError) and error.folder not in unkept:
        text += (
            f". The last stage is kept in {printable(error.folder)}: started again, it is not "
            "trained again"
        )
    return text


def _checkpoint(folder: Path) -> str:
    steps = checkpoint_steps(folder / "checkpoint.safetensors")
    return "no checkpoint" if not steps else f"goes on from its checkpoint of step {steps}"
