"""Axes: the frame that every curve is drawn in."""

from __future__ import annotations

from dataclasses import dataclass

from .drawing import Drawing
from .letters import letters

INK = (228, 228, 232)
FAINT = (70, 72, 80)
PAPER = (28, 29, 33)
CURVES = ((92, 164, 255), (255, 170, 80), (120, 210, 130))
"""Colours of the curves, in turn."""
SERIES = (*CURVES, (240, 110, 150), (176, 146, 240), (236, 216, 110))
"""The same and more, for figures that set many beside each other."""
FONT = 14


@dataclass(frozen=True)
class Axes:
    """A box of a picture, in pixels, and the values at its bottom and at its top."""

    draw: Drawing
    box: tuple[int, int, int, int]
    """Left, top, right, bottom."""
    low: float
    high: float

    def frame(self, first: str, last: str) -> None:
        """Lines with their values on the left, and what the two ends of the steps are called."""
        left, top, right, bottom = self.box
        font = letters(FONT)
        for share in (0.0, 0.5, 1.0):
            y = bottom - share * (bottom - top)
            self.draw.line([(left, y), (right, y)], FAINT)
            label = f"{self.low + share * (self.high - self.low):.3g}"
            self.draw.text((left - 6, y), label, INK, font=font, anchor="rm")
        self.draw.text((left, bottom + 8), first, INK, font=font)
        self.draw.text((right, bottom + 8), last, INK, font=font, anchor="ra")

    def empty(self) -> None:
        """Says that there is nothing to draw."""
        left, top, _, bottom = self.box
        font = letters(FONT)
        self.draw.text((left, (top + bottom) // 2), "no steps", FAINT, font=font)

    def point(self, across: float, value: float) -> tuple[float, float]:
        """Where a value lies, `across` (0..1) of the way from left to right; kept in the box."""
        left, top, right, bottom = self.box
        value = min(max(value, self.low), self.high)
        height = (value - self.low) / (self.high - self.low)
        return left + across * (right - left), bottom - height * (bottom - top)
