"""State of files: what the host is told so that a node runs again when its files have changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path


def file_state(path: Path) -> tuple[bytes, int, int]:
    """Changes when the file does: its path, size and time. OSError if it is not there."""
    found = path.stat()
    return os.fsencode(path), found.st_size, found.st_mtime_ns


def files_state(find: Callable[[], Iterable[Path]]) -> str:
    """Changes when one of the files does, or one comes or goes; why there are none, where `find`
    raises ValueError or OSError."""
    try:
        return repr([file_state(path) for path in find()])
    except (OSError, ValueError) as error:
        return str(error)
