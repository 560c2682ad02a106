"""FolderLock: one process at a time; released by the system when its holder dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


class FolderLockedError(OSError):
    """Another process (or another run of this one) holds the folder."""


class FolderLock:
    """An advisory lock on a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: IO[bytes] | None = None

    def acquire(self) -> None:
        """Takes the lock. FolderLockedError, naming the folder, if it is held."""
        handle = self._path.open("ab")
        try:
            _lock(handle)
        except OSError as error:
            handle.close()
            raise FolderLockedError(
                f"the run folder {self._path.parent} is in use by another training: wait for it, "
                "cancel it, or change the seed to train beside it"
            ) from error
        self._handle = handle

    def release(self) -> None:
        """Gives the lock back; harmless when it is not held."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def _lock(handle: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
