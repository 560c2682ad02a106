"""The run folders beside each other: what they take, and which go first where that is too much."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ..artifacts.tensor_file import size_text
from .folder_lock import FolderLock

log = logging.getLogger(__name__)

LIMIT_VARIABLE = "ATTNDB_RUNS_GB"
"""Environment variable of the server's owner: gigabytes that all run folders may take together.
Not set: they are kept until somebody deletes them."""
ABANDONED_DAYS = 30.0
"""An unfinished training that nobody went on with for so long may be removed too."""


@dataclass(frozen=True)
class RunFolder:
    """One training on disk."""

    path: Path
    size: int
    """Bytes of all files."""
    used: float
    """When it was last asked for, seconds since the epoch."""
    finished: bool

    @property
    def kind(self) -> str:
        """Concept and stage: the folder's name without the request's digest."""
        return self.path.name.rpartition("-")[0] or self.path.name


def run_folders(root: Path) -> list[RunFolder]:
    """The run folders in a folder, those that were used longest ago first."""
    found = []
    with contextlib.suppress(OSError):
        for path in root.iterdir():
            if (path / "run.json").is_file():
                finished = (path / "result.safetensors").is_file()
                found.append(RunFolder(path, _size(path), _last_used(path), finished))
    return sorted(found, key=lambda run: (run.used, run.path.name))


def remove_beyond(root: Path, limit: float, keep: Path) -> list[RunFolder]:
    """Removes run folders until the rest fits into `limit` bytes; what was removed.

    Finished ones go first, the one used longest ago before the others; then unfinished ones that
    nobody used for ABANDONED_DAYS. Never `keep`, never the newest of a concept's stage, never one
    that a training holds.
    """
    runs = run_folders(root)
    newest = {run.kind: run.path for run in runs}
    total = sum(run.size for run in runs)
    old = time.time() - ABANDONED_DAYS * 24 * 3600
    may_go = [run for run in runs if run.path != keep and newest[run.kind] != run.path]
    in_order = [run for run in may_go if run.finished]
    in_order += [run for run in may_go if not run.finished and run.used < old]
    removed = []
    for run in in_order:
        if total <= limit:
            break
        if _remove(run.path):
            total -= run.size
            removed.append(run)
    return removed


def kept_text(folder: Path, removed: list[RunFolder]) -> str:
    """How much a finished training keeps in its folder, and all of them beside it."""
    runs = run_folders(folder.parent)
    mine = sum(run.size for run in runs if run.path == folder)
    total = sum(run.size for run in runs)
    text = f"{size_text(mine)} ({len(runs)} in all, {size_text(total)})"
    if removed:
        freed = size_text(sum(run.size for run in removed))
        text += f"; {LIMIT_VARIABLE} removed {len(removed)} old ones, {freed}"
    return text


def _remove(folder: Path) -> bool:
    """Removes a folder that no training holds; whether it is gone."""
    lock = FolderLock(folder / "lock")
    try:
        lock.acquire()
    except OSError:
        return False
    try:
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "run.json"):
            # what makes it a run goes last: one that is killed here is found again
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
        if os.name == "nt":  # an open file cannot be removed there
            lock.release()
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()
    except OSError as error:
        log.warning("the run folder %s could not be removed: %s", folder, error)
        return False
    finally:
        lock.release()
    log.info("removed the run folder %s (%s)", folder, LIMIT_VARIABLE)
    return True


def _size(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    total += path.stat().st_size
    return total


def _last_used(folder: Path) -> float:
    times = [0.0]
    for name in ("lock", "run.json", "result.safetensors"):
        with contextlib.suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)
