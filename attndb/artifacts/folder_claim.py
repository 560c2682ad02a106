"""A folder of files written as one, under a name that is nobody else's.

All of it is written in a hidden neighbour, which then takes the name: a folder of that name is
whole, whenever the power goes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .name_claim import holds
from .partial_files import forget_partials, partial_neighbour
from .placing import put_in_place
from .tensor_file import Writer, not_written


def claim_folder(folder: Path, files: Mapping[str, Writer]) -> bool:
    """Writes a new folder, with files by their path in it: all of them, or none and False if
    something has the name. OSError names the file that could not be written, the free space of its
    disk and what to do."""
    if os.path.lexists(folder):
        return False
    partial = partial_neighbour(folder)
    try:
        for name, write in files.items():
            try:
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as handle:
                    write(handle)
                    handle.flush()
                    os.fsync(handle.fileno())
            except OSError as error:
                forget_partials([partial])  # the free space is what the user will find
                raise not_written(error, folder / name) from error
        try:  # a folder takes the place of an empty one at most
            put_in_place(partial, folder)
        except OSError as error:
            if os.path.lexists(folder):
                return False  # another was faster
            raise not_written(error, folder) from error
        return True
    finally:
        forget_partials([partial])


def folder_holds(folder: Path, files: Mapping[str, Writer]) -> bool:
    """Whether every one of these files is in the folder as it would be written; others may be."""
    return folder.is_dir() and all(holds(folder / name, write) for name, write in files.items())
