"""The photos of a folder."""

from __future__ import annotations

import logging
from pathlib import Path

from .photo import DatasetError, Photo
from .photo_file import read_photo

log = logging.getLogger(__name__)


_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder and its sub-folders, sorted by their path inside it.

    Hidden files and folders are passed over. DatasetError if the folder is missing or holds none.
    """
    if not folder.exists():
        raise DatasetError(f"folder {folder} does not exist: check the path")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file: give the folder that holds the photos")
    files = [path for path in _files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DatasetError(f"folder {folder} holds no image ({kinds}): put the photos there")
    return files


def foreign_files(folder: Path) -> list[str]:
    """Names of the files below a folder that are no images; the system's own clutter left out."""
    return [
        path.relative_to(folder).as_posix()
        for path in _files(folder)
        if path.suffix.lower() not in IMAGE_SUFFIXES and path.name.lower() not in _CLUTTER
    ]


def _files(folder: Path) -> list[Path]:
    """Visible files below a folder, sorted by their path inside it."""
    return sorted(
        (
            path
            for path in folder.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ),
        key=lambda path: path.relative_to(folder).as_posix(),
    )


def load_folder(folder: Path, *, skip_broken: bool = False) -> tuple[Photo, ...]:
    """The photos of a folder. A broken file is an error that names it, or is skipped on request."""
    photos: list[Photo] = []
    broken = [f"{name} is not an image" for name in foreign_files(folder)]
    for path in image_files(folder):
        try:
            photos.append(read_photo(path, path.relative_to(folder).as_posix()))
        except DatasetError as error:
            broken.append(str(error))
    if broken and not skip_broken:
        raise DatasetError(
            "; ".join(broken) + ". Mend or remove it, or turn on 'skip_broken' to use the rest"
        )
    for message in broken:
        log.warning("skipped: %s", message)
    if not photos:
        raise DatasetError(f"no photo of {folder} could be read: " + "; ".join(broken))
    return tuple(photos)
