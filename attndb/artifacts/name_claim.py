"""Names claimed for a set of files: of all who want a name at one moment, one gets it.

Servers that share a models folder may save under one new name at once. A file is put in its place
only where there is none (a hard link, which the file system makes or refuses as one), and if one
of the set finds its place taken, those already placed are taken back.
"""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from .partial_files import forget_partials
from .placing import put_in_place
from .tensor_file import Writer, completed, not_written

_NO_LINKS = {
    getattr(errno, name, -1)
    for name in ("EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EMLINK", "EINVAL", "EACCES")
}


def claim_whole(files: Mapping[Path, Writer]) -> bool:
    """Writes several files as one, in places where nothing else is: all of them, or none and
    False. The last one is placed last, so it says that the others are there.

    A file that is there already with the very same content counts as written and is not touched.
    OSError names the file that could not be written, its folder's free space and what to do.
    """
    with completed(files) as partials:
        placed: list[Path] = []
        for path, partial in partials.items():
            try:
                if _place(partial, path):
                    placed.append(path)
                elif not _same_content(partial, path):
                    forget_partials(placed)
                    return False
            except OSError as error:
                forget_partials([*placed, *partials.values()])
                raise not_written(error, path) from error
        return True


def _place(partial: Path, path: Path) -> bool:
    """Gives the file its name unless the name is taken; whether it did."""
    try:
        os.link(partial, path)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    try:  # a file system without hard links: an empty file holds the place for the moment
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    try:
        put_in_place(partial, path)
    except OSError:
        forget_partials([path])
        raise
    return True


def _same_content(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # a folder, say, or gone again
        return False


def holds(path: Path, write: Writer) -> bool:
    """Whether a file is exactly what a writer would write; nothing is written."""
    try:
        with path.open("rb") as there:
            write(cast("IO[bytes]", _ComparingHandle(there)))
            return not there.read(1)
    except (OSError, _DiffersError):
        return False


def differs_in_case(path: Path) -> bool:
    """Whether a file beside it has the same name in other letters, upper for lower case: some
    systems and disks take them for one."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return False
    wanted = path.name.casefold()
    return path.name not in names and any(name.casefold() == wanted for name in names)


class _DiffersError(Exception):
    """The content is another."""


class _ComparingHandle:
    def __init__(self, there: IO[bytes]) -> None:
        self._there = there

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if self._there.read(view.nbytes) != view:
            raise _DiffersError
        return view.nbytes
