"""Where photos may come from: below input/ and datasets/, and where the server's owner allows."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths

from ...attndb.artifacts.file_name import RESERVED_NAMES
from ...attndb.config.choices import CaptionSource, MaskSource
from ...attndb.config.printable import printable, quoted
from ...attndb.data.folder import load_folder
from ...attndb.data.photo import Photo
from ...attndb.data.picture_formats import image_suffixes, unread_suffixes
from ...attndb.data.plain_caption import SubjectWords
from ...attndb.data.scan import natural_key, scan
from .file_state import files_state
from .typed_path import can_be_path, is_folder, lies_below, unquoted

log = logging.getLogger(__name__)

OWNERS_KEY = "attndb_photos"
"""Folders that the server's owner allows: a line of this name in extra_model_paths.yaml."""
_MOST_NAMES = 200
_MOST_ENTRIES = 20_000
_FIRST_FILES = 50
_FRESH_S = 5.0
_LONGEST_NAME = 60


def photo_roots() -> list[Path]:
    """Folders below which photos may lie; input/ first."""
    known = folder_paths.folder_names_and_paths
    datasets = known["datasets"][0] if "datasets" in known else []
    allowed = known[OWNERS_KEY][0] if OWNERS_KEY in known else []
    datasets = datasets or [os.path.join(folder_paths.base_path, "datasets")]
    return [Path(root) for root in (folder_paths.get_input_directory(), *datasets, *allowed)]


def resolve_folder(text: object) -> Path:
    """A typed or chosen folder below one of the roots: absolute, or relative to one; quotes, blanks
    around it and ~ are understood. ValueError if it is none, or lies elsewhere."""
    if not isinstance(text, str):
        raise ValueError(f"folder = {quoted(text)} is no text: choose a folder, or type its path")
    cleaned = unquoted(text)
    if not text.strip():
        raise ValueError("folder is empty: choose one under input/, or type a path")
    if not can_be_path(text):
        raise ValueError(f"folder = {quoted(text)} is no path: choose a folder, or type one")
    found = _found(text)  # as it is: names may have blanks, quotes and ~
    if not found:
        if not cleaned:
            raise ValueError("folder is empty: choose one under input/, or type a path")
        found = [*_found(cleaned), *_found(_home(cleaned))]
    folder = found[0] if found else photo_roots()[0] / _home(cleaned)  # to be named as missing
    if lies_below(folder, photo_roots()):
        return folder
    raise ValueError(
        f"folder {quoted(text, 200)} lies outside of ComfyUI's input/ and datasets/ folders: put "
        "the photos into a folder below one of them. Other folders are read only if the server's "
        f"owner allows them, with the line '{OWNERS_KEY}: /path/to/photos' in "
        "extra_model_paths.yaml (see the help of Load Concept Dataset)"
    )


def claim_folder(wanted: str) -> str:
    """Makes a new folder below input/ for photos and returns its name: the wanted one in letters,
    digits, `-` and `_`, or the next free one, `dog-2`, `dog-3`, ... Of two pages that ask at the
    same moment each gets its own. OSError if none can be made."""
    name = re.sub(r"[^\w-]+", "-", wanted).strip("-_")[:_LONGEST_NAME] or "photos"
    if name.upper() in RESERVED_NAMES:
        name = f"photos-{name}"
    root = Path(folder_paths.get_input_directory())
    for candidate in (name, *(f"{name}-{number}" for number in range(2, _MOST_ENTRIES))):
        try:
            (root / candidate).mkdir()
            return candidate
        except FileExistsError:
            continue
    raise OSError(f"{_MOST_ENTRIES} folders are named {name}")


def _home(text: str) -> str:
    """With the server's own ~ spelt out. Another user's stays as it is: the answer would tell who
    has an account."""
    if not re.match(r"~([/\\]|$)", text):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise ValueError(
            f"folder {quoted(text, 200)}: the server has no home folder; type the whole path"
        ) from error


def _found(text: str) -> list[Path]:
    """The folders that a text may mean, the one that is taken first: absolute, by the name of a
    root and what is below it, or below one of the roots, input/ before the others."""
    path = Path(text)
    if path.is_absolute():
        return [path] if is_folder(path) else []
    roots = photo_roots()
    named = [root.parent / path for root in roots if path.parts[:1] == (root.name,)]
    return [place for place in (*named, *(root / path for root in roots)) if is_folder(place)]


def _warn_of_another(text: object, folder: Path) -> None:
    """Says which of several folders of a typed name is read."""
    same = os.path.realpath(folder)
    others = {path for path in _found(str(text)) if os.path.realpath(path) != same}
    if others := sorted(path for path in others if lies_below(path, photo_roots())):
        log.warning(
            "folder %s: photos are read from %s; %s is another of this name, and is not read. Type "
            "the whole path for that one",
            *(quoted(text, 200), printable(folder), ", ".join(map(printable, others))),
        )


def read_folder(
    text: object,
    skip_broken: bool,
    captions: CaptionSource,
    words: SubjectWords,
    masks: MaskSource,
) -> tuple[Photo, ...]:
    """The photos of a folder, with captions from their text files and masks if wanted; `words`: of
    the subject in plain captions. Cancel stops it."""
    folder = resolve_folder(text)
    _warn_of_another(text, folder)
    return load_folder(
        folder,
        captions=captions,
        words=words,
        masks=masks,
        skip_broken=skip_broken,
        within=photo_roots(),
        check=comfy.model_management.throw_exception_if_processing_interrupted,
    )


def folder_state(text: object) -> str:
    """Changes when a photo of the folder, its text or its mask is added, removed or replaced."""
    try:
        listing = scan(resolve_folder(text), within=photo_roots())
    except (ValueError, OSError) as error:
        return str(error)
    return repr((files_state(lambda: listing.files), listing.unusable))


_listed: dict[str, Any] = {"key": None, "at": 0.0, "names": []}


def photo_folders() -> list[str]:
    """Folders with images, two levels deep below the roots, sorted: a choice of up to 200, remade
    when a folder is added or after five seconds."""
    roots = photo_roots()
    key = [(str(root), _changed_at(root), _changed_at(root.parent)) for root in roots]
    now = time.monotonic()
    if _listed["key"] != key or now - _listed["at"] > _FRESH_S:
        _listed.update(key=key, at=now, names=_list(roots))
    return list(_listed["names"])


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _list(roots: list[Path]) -> list[str]:
    budget = [_MOST_ENTRIES]
    names: list[str] = []
    for number, root in enumerate(roots):
        found = _folders(root, budget)
        deeper = [f"{name}/{below}" for name in found for below in _folders(root / name, budget)]
        own = [name for name in (*found, *deeper) if _has_image(root / name, budget)]
        names += [_name_of(root, name, number == 0) for name in own]
        if number > 0 and _has_image(root, budget):
            names.append(_name_of(root, "", False))
    # a name that is not UTF-8 cannot be sent to the page: such a folder has to be renamed
    return sorted({n for n in names if n.isprintable()}, key=natural_key)[:_MOST_NAMES]


def _name_of(root: Path, name: str, plain: bool) -> str:
    """What a folder below a root is chosen by: a name that means this one and no other. `plain`: it
    may do without the root's name."""
    whole = f"{root.name}/{name}" if name else root.name
    for candidate in (name, whole) if plain else (whole,):
        if _found(candidate)[:1] == [root / name]:
            return candidate
    return str(root / name)


def _folders(folder: Path, budget: list[int]) -> list[str]:
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                budget[0] -= 1
                if budget[0] <= 0:
                    break
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
    except OSError:
        pass  # not there, or not ours: nothing to choose
    return sorted(names)


def _has_image(folder: Path, budget: list[int]) -> bool:
    """Whether one of the first files of a folder is an image, if only of a format that is not read
    here: running says what to do."""
    suffixes = image_suffixes().union(unread_suffixes())
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(_FIRST_FILES), entries, strict=False):
                budget[0] -= 1
                if os.path.splitext(entry.name)[1].lower() in suffixes:
                    return True
    except OSError:
        pass
    return False
