"""HEIC photos as phones make them, and a Python that has no reader of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from attndreambooth.attndb.data import picture_formats


def save_heic(picture: Image.Image, path: Path, turn: int = 1, **options: object) -> Path:
    """A HEIC file; `turn`: an EXIF orientation, which phones write beside the file's own."""
    picture_formats.readable_formats()
    exif = Image.Exif()
    exif[0x0112] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "HEIF", exif=exif.tobytes(), **{"quality": 95, **options})
    return path


@contextmanager
def without_reader(*formats: str, package: object = None) -> Iterator[None]:
    """A Python whose Pillow does not read these formats, with another pillow-heif or none."""
    with pytest.MonkeyPatch.context() as patch:
        picture_formats.readable_formats()
        for name in formats:
            patch.delitem(Image.OPEN, name, raising=False)
            patch.setattr(Image, "ID", [kind for kind in Image.ID if kind != name])
        patch.setitem(sys.modules, "pillow_heif", package)
        picture_formats._register.cache_clear()
        try:
            yield
        finally:
            picture_formats._register.cache_clear()
