"""A path that somebody typed: what is meant by it, and whether it lies where it may be read."""

from __future__ import annotations

import ntpath
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import folder_paths

_LONGEST_PATH = 1024
_WINDOWS = os.name == "nt"


def unquoted(text: str) -> str:
    """Without the blanks and quotes around it that come with a pasted path."""
    return text.strip().strip("\"'").strip()


def can_be_path(text: str) -> bool:
    """Whether a typed text can name a file at all on this system."""
    try:
        return len(text) <= _LONGEST_PATH and "\0" not in text and bool(os.fsencode(text))
    except UnicodeEncodeError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that the system does not take is none."""
    try:
        return not _of_another_computer(path) and path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that the system does not take is none."""
    try:
        return not _of_another_computer(path) and path.is_file()
    except (OSError, ValueError):
        return False


def place_of(text: str, roots: Sequence[Path], is_there: Callable[[Path], bool]) -> Path:
    """Where an absolute path points, or one below the roots: the first place where `is_there` says
    yes; the first of all where none does, to be named as missing."""
    path = Path(text)
    places = [path] if path.is_absolute() else [root / path for root in roots]
    return next((place for place in places if is_there(place)), places[0])


def lies_below(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path is one of the roots or inside one, wherever links lead."""
    if _of_another_computer(path):
        return False
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)


def _of_another_computer(path: Path) -> bool:
    """Whether a path of Windows names a share (`//computer/share`) that has no folder of the
    host's. Only to look whether something is there would tell that computer the hash of the
    server's account, and whoever sends a workflow would choose the computer."""
    if not _WINDOWS:
        return False
    drive = _share(path)
    return bool(drive) and drive not in map(_share, _folders_of_the_host())


def _share(path: str | Path) -> str:
    drive = ntpath.splitdrive(os.fspath(path))[0].replace("/", "\\").lower()
    local = re.fullmatch(r"\\\\[?.]\\[a-z]:", drive)
    return drive if drive.startswith("\\\\") and not local else ""


def _folders_of_the_host() -> list[str]:
    known = [path for paths, _ in folder_paths.folder_names_and_paths.values() for path in paths]
    own = (folder_paths.get_input_directory(), folder_paths.get_output_directory())
    return [folder_paths.base_path, *own, *known]
