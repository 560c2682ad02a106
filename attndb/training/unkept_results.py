"""Results that found no room on the disk, held in memory until they are kept somewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..artifacts.tensor_file import size_text
from .loss_table import LossTable
from .run_files import result_tensors
from .training import StageResult

log = logging.getLogger(__name__)


class UnkeptResults:
    """Finished trainings by the digest of their request. The host's cache forgets what a node gave
    when memory is short; what cannot be had again without training again is not left to it.

    Bounded: the oldest goes, with a word in the log, when there are too many or they are too large;
    the newest always stays.
    """

    def __init__(self, most: int = 4, most_bytes: float = 8e9) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._held: dict[str, tuple[StageResult, Path]] = {}
        self._lock = threading.Lock()

    def keep(self, digest: str, result: StageResult, folder: Path) -> None:
        """Holds a result as the newest; `folder`: which could not take it."""
        with self._lock:
            self._held.pop(digest, None)
            self._held[digest] = result, folder
            while len(self._held) > 1 and (
                len(self._held) > self._most or self.bytes_held > self._most_bytes
            ):
                oldest = next(iter(self._held))
                size = _size(self._held.pop(oldest)[0])
                log.warning(
                    "a finished training (%s..., %s) that no disk could take is given up for newer "
                    "ones",
                    oldest[:12],
                    size_text(size),
                )

    def find(self, digest: str) -> StageResult | None:
        """The result of this request, if it is held."""
        return self._held.get(digest, (None,))[0]

    def release(self, digest: str) -> None:
        """The result is on disk; harmless when it is not held."""
        with self._lock:
            self._held.pop(digest, None)

    def release_saved(self, record: Mapping[str, Any]) -> None:
        """A concept with this record was saved: its last stage's result is not held any longer."""
        stages = record.get("stages") or [{}]
        losses = stages[-1].get("losses")
        with self._lock:
            for digest, (result, _) in list(self._held.items()):
                if LossTable.of(result.losses).as_record()["losses"] == losses:
                    del self._held[digest]

    @property
    def folders(self) -> list[Path]:
        """Those that could not take what is held, the oldest first."""
        return [folder for _, folder in self._held.values()]

    @property
    def bytes_held(self) -> int:
        """Size of all that is held."""
        return sum(_size(result) for result, _ in self._held.values())


def _size(result: StageResult) -> int:
    return sum(value.nbytes for value in result_tensors(result).values())


UNKEPT = UnkeptResults()
"""Those of this process."""
