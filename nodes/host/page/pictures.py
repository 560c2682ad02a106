"""Small pictures for the page: of the photos in a folder, and of saved concepts."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import folder_paths
from PIL import Image

from ....attndb.artifacts.concept import trigger_words
from ....attndb.artifacts.concept_files import read_record
from ....attndb.artifacts.manager_metadata import open_thumbnail, record_thumbnail
from ....attndb.config.printable import printable
from ....attndb.data.photo_file import read_picture
from ....attndb.data.picture_formats import image_suffixes, unread_suffixes
from ....attndb.data.scan import scan
from ....attndb.data.upright import upright
from ..file_state import file_state
from ..paths import find_concept, saved_concepts
from ..photo_folders import photo_roots, resolve_folder

SIDE = 160
"""Longer side of a small picture, in pixels."""
MOST_LISTED = 60
"""Photos that are shown of a folder."""


@dataclass(frozen=True)
class ListedPhoto:
    """A photo of a folder."""

    path: Path
    name: str
    """Its path inside the folder."""

    @property
    def version(self) -> str:
        """Names this file as it is now: changes with its name, size and time."""
        return _short(file_state(self.path))


def list_photos(folder: str) -> list[ListedPhoto]:
    """The photos that a training would read of a folder, in order. ValueError: see scan()."""
    place = resolve_folder(folder)
    images = scan(place, within=photo_roots()).images
    return [ListedPhoto(path, path.relative_to(place).as_posix()) for path in images]


def describe_folder(folder: str) -> dict[str, Any]:
    """What the page shows of a folder: its first photos, how many there are, where under input/
    photos may be added to it (null: nowhere), which files are taken for photos, and why others are
    not, by ending. A folder that is not there yet is no error."""
    shown: dict[str, Any] = {"suffixes": sorted(image_suffixes()), "unread": unread_suffixes()}
    nothing = {"photos": [], "count": 0, "subfolder": None}
    try:
        if not _is_there(resolve_folder(folder)):
            return {**shown, **nothing, "error": ""}
        photos = list_photos(folder)
    except ValueError as error:
        return {**shown, **nothing, "error": str(error)}
    listed = []
    for photo in photos[:MOST_LISTED]:
        try:
            listed.append({"name": printable(photo.name, 200), "version": photo.version})
        except OSError:  # gone since it was listed
            continue
    subfolder = _below_input(resolve_folder(folder))
    return {**shown, "photos": listed, "count": len(photos), "subfolder": subfolder, "error": ""}


def photo_picture(folder: str, version: str) -> bytes:
    """A small upright JPEG of the folder's photo that has this version. FileNotFoundError if there
    is none any more; DatasetError names a file that training could not read either."""
    for photo in list_photos(folder):
        if photo.version == version:
            return _jpeg(read_picture(photo.path, photo.name, partial(_small, name=photo.name)))
    raise FileNotFoundError("the photo was removed or replaced")


def describe_concepts() -> list[dict[str, str]]:
    """The saved concepts: name, trigger words, version."""
    return [found for name in saved_concepts() if (found := _described(name)) is not None]


def concept_picture(name: str) -> bytes:
    """A small JPEG of a saved concept: of its record, or of the picture beside its file.
    FileNotFoundError if it has none."""
    embedding, _ = find_concept(name)
    record = read_record(embedding) or {}
    beside = embedding.with_name(f"{embedding.stem}.preview.png")
    if (picture := record_thumbnail(record)) is not None:
        with open_thumbnail(picture) as opened:
            return _jpeg(_small(opened, name))
    if beside.is_file():
        return _jpeg(read_picture(beside, beside.name, partial(_small, name=beside.name)))
    raise FileNotFoundError(f"concept {name!r} was saved without a picture")


def _described(name: str) -> dict[str, str] | None:
    try:
        embedding, _ = find_concept(name)
        record = read_record(embedding) or {}
        version = _short(file_state(embedding))
    except (OSError, ValueError):  # gone or damaged since it was listed
        return None
    words = trigger_words(record.get("placeholder", ""), record.get("category", ""), record).strip()
    return {"name": name, "trigger": printable(words, 200), "version": version}


def _is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:  # a name that the system does not take: scan() says so
        return True


def _below_input(folder: Path) -> str | None:
    """A folder's path inside input/, as the stock upload takes it; None if it lies elsewhere."""
    real = Path(os.path.realpath(folder))
    root = Path(os.path.realpath(folder_paths.get_input_directory()))
    if real == root or not real.is_relative_to(root):
        return None
    return real.relative_to(root).as_posix()


def _small(opened: Image.Image, name: str) -> Image.Image:
    opened.draft(None, (2 * SIDE, 2 * SIDE))  # a JPEG is decoded small
    picture = upright(opened, name)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _short(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:20]
