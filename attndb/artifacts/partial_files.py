"""Partial files: the hidden neighbours in which files, and folders of files, are written before
they take their names.

`.<name>.<machine>-<process>-<number>.part`: who writes is in the name, so that what a killed
process left can be told from what a living one is writing.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path


def _machine() -> str:
    """Where numbers of processes are this one's: containers may share a host's name and a folder,
    and each counts its own."""
    name = platform.node()
    with contextlib.suppress(OSError, AttributeError):  # Linux has such links
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode()).hexdigest()[:6]


_MACHINE = _machine()
_NAME = re.compile(r"\..+\.(?P<machine>[0-9a-f]{6})-(?P<process>\d+)-\d+\.part")
_OLD_NAME = re.compile(r"\..+\.safetensors\.(?P<process>\d+)\.part")
_ABANDONED_S = 24 * 3600.0
"""A file that nobody has written to for so long is nobody's, whatever its name says."""

_numbers = itertools.count()
_ours: set[Path] = set()


def partial_neighbour(path: Path) -> Path:
    """A new name beside `path` to write its content to; `forget_partials` when that is over."""
    number = next(_numbers)
    partial = path.with_name(f".{path.name}.{_MACHINE}-{os.getpid()}-{number}.part")
    _ours.add(partial)
    return partial


def forget_partials(partials: Iterable[Path]) -> None:
    """Removes what is still there of them; their writing is over."""
    for partial in list(partials):
        with contextlib.suppress(OSError):
            if partial.is_dir() and not partial.is_symlink():
                shutil.rmtree(partial)
            else:
                partial.unlink(missing_ok=True)
        _ours.discard(partial)


def remove_partial_files(folder: Path) -> None:
    """Removes all partial files in a folder and below; only for the one that holds the folder."""
    forget_partials(path for path in folder.rglob(".*.part") if not path.is_dir())


def remove_stale_partial_files(folder: Path) -> list[Path]:
    """Removes the partial files that dead processes left in a shared folder (not below it)."""
    try:
        stale = [path for path in folder.glob(".*.part") if _is_stale(path)]
    except OSError:
        return []
    forget_partials(stale)
    return stale


def _is_stale(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    old = None if found else _OLD_NAME.fullmatch(path.name)
    if (found is None and old is None) or path in _ours:
        return False
    try:
        if time.time() - path.lstat().st_mtime > _ABANDONED_S:
            return True
    except OSError:
        return False
    if found is None:
        return old is not None and not _alive(int(old["process"]))
    if found["machine"] != _MACHINE:
        return False
    process = int(found["process"])
    return process == os.getpid() or not _alive(process)


def _alive(process: int) -> bool:
    """Whether a process of this number runs here; True where that cannot be asked harmlessly."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
