"""A disk that a test fills and frees: a small tmpfs, or a limit on the size of files."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path


class Disk:
    """A tmpfs; `fill` leaves some bytes free, `free` gives the rest back."""

    real = True
    """Whether it is a disk of its own, so that even an empty folder can be full."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size

    def mount(self) -> bool:
        """Whether the system let us."""
        options = ["-t", "tmpfs", "-o", f"size={self._size}"]
        command = ["mount", *options, "tmpfs", str(self.folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def fill(self, left: int = 0) -> None:
        """Leaves `left` bytes free, at once: the disk itself shrinks."""
        used = shutil.disk_usage(self.folder).used
        self._resize(max(used + left, 4096))

    def free(self) -> None:
        """Undoes `fill`."""
        self._resize(self._size)

    def _resize(self, size: int) -> None:
        command = ["mount", "-o", f"remount,size={size}", str(self.folder)]
        subprocess.run(command, check=True, capture_output=True)


class FileSizeLimit(Disk):
    """No file of a process can grow beyond what `fill` leaves: no root needed. It stands for a full
    disk only for files larger than that."""

    real = False

    def __init__(self, folder: Path, process: Callable[[], int]) -> None:
        super().__init__(folder, 0)
        self._process = process

    def fill(self, left: int = 0) -> None:
        self._limit(max(left, 600_000))  # the process's own log has to go on

    def free(self) -> None:
        self._limit(-1)

    def _limit(self, size: int) -> None:
        import resource

        hard = resource.prlimit(self._process(), resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._process(), resource.RLIMIT_FSIZE, (size, hard))


@contextlib.contextmanager
def small_disk(folder: Path, size: int, process: Callable[[], int]) -> Iterator[Disk]:
    """A disk of `size` bytes in the place of an empty folder, on Linux: a tmpfs where one may be
    mounted (root, and ATTNDB_NO_TMPFS not set), else a limit on the files of `process` (an id)."""
    disk = Disk(folder, size)
    if "ATTNDB_NO_TMPFS" not in os.environ and os.geteuid() == 0 and disk.mount():
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    limit = FileSizeLimit(folder, process)
    try:
        yield limit
    finally:
        with contextlib.suppress(OSError):  # the process may be gone
            limit.free()
