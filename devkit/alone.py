"""One command of `dev.py` at a time sets up: two pips in one environment break it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .console import say
from .pack import ROOT

LOCK = ROOT / ".cache" / "setup.lock"
POLL_S = 0.5


@contextmanager
def alone(lock: Path = LOCK) -> Iterator[None]:
    """Waits until no other process is inside; one that dies is no longer. Where a file system has
    no locks, nobody waits."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as handle:
        told = False
        while _held(handle):
            if not told:
                say("another command of dev.py is setting up: waiting for it")
                told = True
            time.sleep(POLL_S)
        yield


def _held(handle: IO[bytes]) -> bool:
    """Whether another process has the lock; else it is taken, until the file is closed."""
    try:
        if os.name == "nt":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    return False
