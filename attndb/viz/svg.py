"""SvgDrawing: what PIL's ImageDraw does for our figures, written down as SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from .axes import PAPER
from .letters import letters

_ANCHORS = {"l": "start", "m": "middle", "r": "end"}


class SvgDrawing:
    """Draws into SVG text. Text is as wide as in PIL's font, so that both come out alike."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._parts: list[str] = []
        self._measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def line(self, xy: Sequence[tuple[float, float]], fill: Any = None, width: int = 1) -> None:
        """A line through points."""
        points = " ".join(f"{x:.4g},{y:.4g}" for x, y in xy)
        self._parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_colour(fill)}" '
            f'stroke-width="{width}"/>'
        )

    def ellipse(self, xy: Sequence[float], fill: Any = None) -> None:
        """A filled ellipse in a box."""
        left, top, right, bottom = xy
        self._parts.append(
            f'<ellipse cx="{(left + right) / 2:.4g}" cy="{(top + bottom) / 2:.4g}" '
            f'rx="{(right - left) / 2:.4g}" ry="{(bottom - top) / 2:.4g}" fill="{_colour(fill)}"/>'
        )

    def text(
        self,
        xy: tuple[float, float],
        text: str,
        fill: Any = None,
        font: Any = None,
        anchor: str | None = "la",
    ) -> None:
        """Text from its top left, or from where the anchor says: l m r, and a (top) or m."""
        size = getattr(font, "size", 10)
        across, down = (anchor or "la")[0], (anchor or "la")[1]
        base = xy[1] + (0.95 * size if down == "a" else 0.35 * size)
        self._parts.append(
            f'<text x="{xy[0]:.4g}" y="{base:.4g}" font-size="{size:g}" fill="{_colour(fill)}" '
            f'textLength="{self.textlength(text, font):.4g}" lengthAdjust="spacingAndGlyphs" '
            f'text-anchor="{_ANCHORS[across]}">{html.escape(text)}</text>'
        )

    def textlength(self, text: str, font: Any = None) -> float:
        """Its width in pixels, in PIL's font."""
        return self._measure.textlength(text, font=font or letters())

    def markup(self) -> str:
        """The `<svg>` element."""
        width, height = self._size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="system-ui, sans-serif">'
            f'<rect width="{width}" height="{height}" fill="{_colour(PAPER)}"/>'
            f"{''.join(self._parts)}</svg>"
        )


def _colour(rgb: Any) -> str:
    return "rgb({},{},{})".format(*rgb[:3])
