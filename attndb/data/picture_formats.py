"""Formats of picture files: which are read here, and what it takes to read the others."""

from __future__ import annotations

import functools
import logging
import sys

from PIL import Image

from ..config.printable import printable

log = logging.getLogger(__name__)

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")
"""Others are not tried, whatever a file's name says: some of Pillow's readers start programs, and
some trust the sizes that a file claims."""
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
_OPTIONAL = {"AVIF": (".avif",), "HEIF": (".heic", ".heif", ".hif")}
_SHOWN = {"AVIF": "AVIF", "HEIF": "HEIC"}
FORMAT_BYTES = 12
"""Of a file's beginning tell whether it is one of those that may not be read."""
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIF"),
    **dict.fromkeys((b"mif1", b"msf1"), "HEIF"),
}
"""Of the box `ftyp` that such a file begins with (ISO 23008-12)."""


def readable_formats() -> list[str]:
    """Pillow's names of the formats that are read here: HEIF where the package pillow-heif is
    installed, or another pack registered a reader; AVIF where Pillow has it."""
    Image.init()
    if any(name not in Image.OPEN for name in _OPTIONAL):
        _register()
    return [name for name in _FORMATS if name in Image.OPEN]


def image_suffixes() -> frozenset[str]:
    """Endings of files that are read here."""
    readable = readable_formats()
    return _SUFFIXES.union(*(ends for name, ends in _OPTIONAL.items() if name in readable))


def unread_suffixes() -> dict[str, str]:
    """Endings of photos that nothing here reads, each with what its format is and the remedy."""
    readable = readable_formats()
    return {
        ending: _unread(name)
        for name, endings in _OPTIONAL.items()
        if name not in readable
        for ending in endings
    }


def unread_content(start: bytes) -> str | None:
    """The same of a file of whatever name, by its beginning; None if it is none of those."""
    name = _BRANDS.get(start[8:12]) if start[4:8] == b"ftyp" else None
    return None if name is None or name in readable_formats() else _unread(name)


def _unread(name: str) -> str:
    wanted = "pillow-heif" if name == "HEIF" else "--upgrade pillow"
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable or "python"
    phone = " (an iPhone takes JPEG with Settings > Camera > Formats > Most Compatible)"
    return (
        f"{_SHOWN[name]}, which nothing in this Python reads: run '{printable(python)} -m pip "
        f"install {wanted}' and start anew, or save as JPEG{phone if name == 'HEIF' else ''}"
    )


@functools.cache
def _register() -> None:
    """Has pillow-heif, where it is installed, read what Pillow does not."""
    try:
        import pillow_heif

        if "HEIF" not in Image.OPEN:
            pillow_heif.register_heif_opener()
        register_avif = getattr(pillow_heif, "register_avif_opener", None)  # before 1.0
        if "AVIF" not in Image.OPEN and register_avif is not None:
            register_avif()
    except ModuleNotFoundError:
        return  # told where a file needs it
    except Exception as error:  # a library of it that does not fit this system
        log.warning("pillow-heif is installed, and cannot be used: %s", printable(error, 200))
