"""Axes: the frame that every curve is drawn in."""

from __future__ import annotations

import math
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
_APART = 34
"""Least pixels between two lines of a scale."""


def step_of(low: float, high: float, most: int) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that reaches from at or below `low` to at or
    above `high` in `most` steps or fewer."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while True:
        for times in (1, 2, 5):
            first, last = steps_around(low, high, step * times)
            if last - first <= most:
                return step * times
        step *= 10


def steps_around(low: float, high: float, step: float) -> tuple[int, int]:
    """Numbers of the steps around both ends; an end that lies on one but for rounding is on it."""
    return math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)


@dataclass(frozen=True)
class Axes:
    """A box of a picture, in pixels, and the values at its bottom and at its top."""

    draw: Drawing
    box: tuple[int, int, int, int]
    """Left, top, right, bottom."""
    low: float
    high: float

    @classmethod
    def around(cls, draw: Drawing, box: tuple[int, int, int, int], low: float, high: float) -> Axes:
        """With bottom and top at even values, so that all values from `low` to `high` are in."""
        step = step_of(low, high, _most(box))
        first, last = steps_around(low, high, step)
        return cls(draw, box, first * step, last * step)

    def frame(self, first: str, last: str) -> None:
        """Lines at even values, written on the left, and what the two ends of the steps are
        called."""
        left, _, right, bottom = self.box
        font = letters(FONT)
        step = step_of(self.low, self.high, _most(self.box))
        begin, end = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        for number in range(begin, end + 1):
            _, y = self.point(0.0, number * step)
            self.draw.line([(left, y), (right, y)], FAINT)
            label = f"{number * step:.6g}"
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


def _most(box: tuple[int, int, int, int]) -> int:
    """Steps of a scale that a box has the height for."""
    return max(3, (box[3] - box[1]) // _APART)
