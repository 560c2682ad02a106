"""One picture from a file or an array: upright, in RGB."""

from __future__ import annotations

import io
import logging
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import jpeg_factory

from ..config.printable import printable
from .photo import DatasetError, Photo
from .picture_formats import FORMAT_BYTES, readable_formats, unread_content
from .upright import bounded_size, upright, upright_alpha

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_BYTES = 512 << 20
_MOST_PIXELS = {"JPEG": 210_000_000, "MPO": 210_000_000, "WEBP": 50_000_000, "AVIF": 50_000_000}
_MOST_PIXELS_ELSE = 100_000_000
"""Decoding keeps below 1 GB with these: JPEG, of which cameras make 200 megapixels, decodes at half
size, WebP keeps several copies."""
_MOST_ALPHA_PIXELS = 64_000_000
_JPEG = b"\xff\xd8\xff"
_THINNEST = 100
"""Longer side over shorter side: a crop of a thinner picture would be a stripe, scaled up."""


def read_photo(path: Path, name: str, alpha: bool = False) -> Photo:
    """One image file, upright; `alpha`: with its alpha channel, if it has one, as its mask.
    DatasetError names a file that is empty, broken or no image; only regular files are opened."""

    return read_picture(path, name, lambda opened: _photo(name, opened, alpha))


def _photo(name: str, opened: Image.Image, alpha: bool) -> Photo:
    mask = upright_alpha(opened, name) if alpha else None
    opaque = mask is None or mask.getextrema() == (255, 255)
    return Photo(name, upright(opened, name), mask=None if opaque else mask)


def read_picture(path: Path, name: str, make: Callable[[Image.Image], T]) -> T:
    """What is made of one image file. DatasetError names a file that is empty, broken or no image;
    only regular files are opened."""
    shown, start = printable(name, 200), b""
    try:
        with open_regular(path) as file:
            start = file.read(FORMAT_BYTES)
            file.seek(0)
            with _opened(file, start) as opened:
                _check_size(opened)
                _decode_smaller(opened)
                made = make(opened)
                if getattr(opened, "is_animated", False) and opened.format != "MPO":
                    which = "the main one" if opened.format == "HEIF" else "the first"
                    log.info("%s holds several pictures: %s is used", shown, which)
                return made
    except DatasetError as error:
        raise DatasetError(f"{shown} {error}") from error
    except UnidentifiedImageError as error:
        why = unread_content(start) or "not an image that can be read"
        raise DatasetError(f"{shown} is {why}") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{shown} is too large to be opened safely: {error}") from error
    except MemoryError as error:
        raise DatasetError(f"{shown} needs more memory than there is") from error
    except Exception as error:  # a reader of a broken file may raise anything
        reason = printable(error, 200) or type(error).__name__
        raise DatasetError(f"{shown} is broken or unreadable: {reason}") from error


def _opened(file: io.BufferedReader, start: bytes) -> Image.Image:
    """Pillow opens nothing above 178.9 megapixels, as whoever decodes it whole should not; a JPEG,
    which is not, may have more."""
    try:
        return Image.open(file, formats=readable_formats())
    except Image.DecompressionBombError:
        if not start.startswith(_JPEG):
            raise
        file.seek(0)
        return jpeg_factory(file)


def photos_from_arrays(
    images: Sequence[np.ndarray], name: str = "image", alpha: bool = False
) -> tuple[Photo, ...]:
    """Photos from float arrays (height, width, 1, 3 or 4) in 0..1, as ComfyUI's IMAGE holds them.

    They are called `<name> 1`, `<name> 2`, ... in messages. `alpha`: a fourth channel is the
    photo's mask. DatasetError names one that is no picture.
    """
    photos = []
    for number, array in enumerate(images, start=1):
        try:
            photos.append(_photo(f"{name} {number}", _picture(array), alpha))
        except DatasetError as error:
            raise DatasetError(f"{name} {number} {error}") from error
    return tuple(photos)


def _picture(array: np.ndarray) -> Image.Image:
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise DatasetError(
            f"has the shape {tuple(array.shape)}: a picture is (height, width, 3), or 1 or 4 "
            "channels"
        )
    _check_shape(array.shape[1], array.shape[0])
    if not np.isfinite(array).all():
        raise DatasetError("holds values that are no numbers (NaN or infinite)")
    pixels = np.round(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def open_regular(path: Path) -> io.BufferedReader:
    """The file, opened so that what is no regular file is never waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise DatasetError("is no regular file")
        if found.st_size == 0:
            raise DatasetError("is empty (0 bytes)")
        if found.st_size > _MOST_BYTES:
            raise DatasetError(
                f"has {found.st_size >> 20} MB, more than the {_MOST_BYTES >> 20} MB of a photo"
            )
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check_size(opened: Image.Image) -> None:
    _check_shape(*opened.size)
    most = _MOST_PIXELS.get(opened.format or "", _MOST_PIXELS_ELSE)
    if opened.mode not in ("L", "RGB", "P", "1") and opened.mode[:1] not in ("I", "Y", "C"):
        most = min(most, _MOST_ALPHA_PIXELS)
    if opened.width * opened.height > most:
        raise DatasetError(
            f"is too large to be opened safely: {opened.width} x {opened.height} px, and at most "
            f"{most // 10**6} megapixels are read of a {opened.format} file; make it smaller"
        )


def _check_shape(width: int, height: int) -> None:
    if max(width, height) > _THINNEST * min(width, height):
        raise DatasetError(f"is {width} x {height} px, a stripe: cut the subject out of it")


def _decode_smaller(opened: Image.Image) -> None:
    """JPEG can be decoded at half its size, where that is more than is kept."""
    width, height = bounded_size(*opened.size)
    if width < opened.width:
        opened.draft(None, (width, height))
