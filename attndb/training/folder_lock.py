"""FolderLock: one process at a time; released by the system when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, 0}
"""What a system answers when somebody else has the lock (flock(2), msvcrt.locking; Wine's: 0)."""
_WARNED: set[int] = set()


class FolderLockedError(OSError):
    """Another process (or another run of this one) holds the folder."""


class FolderLock:
    """An advisory lock on a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: IO[bytes] | None = None

    def acquire(self) -> None:
        """Takes the lock. FolderLockedError, naming the folder, if it is held. A file system that
        has no locks is only warned of: two trainings in one folder are rare, and none at all would
        be worse."""
        handle = self._path.open("ab")
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _HELD:
                handle.close()
                raise FolderLockedError(
                    f"the run folder {self._path.parent} is in use by another training: wait for "
                    "it, cancel it, or change the seed to train beside it"
                ) from error
            if error.errno not in _WARNED:
                _WARNED.add(error.errno or 0)
                log.warning(
                    "%s: this file system has no locks (%s): do not train the same request in two "
                    "ComfyUIs at once",
                    self._path.parent,
                    error.strerror or error,
                )
        with contextlib.suppress(OSError):
            os.utime(self._path)  # when the folder was last used
        self._handle = handle

    def release(self) -> None:
        """Gives the lock back; harmless when it is not held. Also where a process that was forked
        meanwhile has the file open: closing it here would leave the lock to that one."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                _unlock(self._handle)
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


def _unlock(handle: IO[bytes]) -> None:
    if os.name != "nt":  # Windows forks no processes
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)
