"""Letters of figures: Pillow's own, which every installation has."""

from __future__ import annotations

from typing import Any

from PIL import ImageFont


def letters(size: int = 10) -> Any:
    """Pillow's own font in a size in pixels. Before Pillow 10.1 it has one size, and the letters of
    Latin-1 alone: others are then question marks."""
    try:
        return ImageFont.load_default(size=size)
    except TypeError:
        return _Latin(ImageFont.load_default())


class _Latin:
    """The font of an older Pillow, which fails over a letter that it does not have."""

    def __init__(self, font: Any) -> None:
        self._font = font

    def getmask(self, text: str, *args: Any, **kwargs: Any) -> Any:
        """The pixels of a text, as ImageDraw asks for them."""
        return self._font.getmask(_latin(text), *args, **kwargs)

    def getlength(self, text: str, *args: Any, **kwargs: Any) -> float:
        """The width of a text in pixels."""
        return self._font.getlength(_latin(text), *args, **kwargs)


def _latin(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
