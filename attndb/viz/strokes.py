"""Strokes: how a curve is told from the others, by its colour, its dashes and its markers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .axes import SERIES
from .drawing import Drawing

Place = tuple[float, float]

_DASHES: Sequence[tuple[float, ...]] = ((), (9, 6), (16, 5), (5, 5), (2, 6), (16, 4, 3, 4))
"""Pixels drawn and left out, in turn; the first is whole. What lies below shows in the gaps."""
_MARKERS = "disc", "cross", "triangle", "square", "plus", "diamond"
_LEAST = 22
"""Pixels between two markers, in the middle."""


@dataclass(frozen=True)
class Stroke:
    """One of the pack's six ways to draw a curve."""

    number: int

    @property
    def color(self) -> tuple[int, int, int]:
        """Red, green, blue."""
        return SERIES[self.number % len(SERIES)]

    def draw(self, draw: Drawing, places: Sequence[Place]) -> None:
        """A curve through places, with a marker at each, or at every other one where they are
        close; always at the last."""
        for part in _parts(places, _DASHES[self.number % len(_DASHES)]):
            draw.line(part, self.color, width=2)
        if len(places) < 2:
            every = 1
        else:
            apart = (places[-1][0] - places[0][0]) / (len(places) - 1)
            every = max(1, math.ceil(_LEAST / max(apart, 1e-6)))
        for place in places[::-every]:
            self.mark(draw, place)

    def sample(self, draw: Drawing, place: Place, width: int) -> None:
        """A level piece with a marker in the middle, from a place on."""
        x, y = place
        for part in _parts([(x, y), (x + width, y)], _DASHES[self.number % len(_DASHES)]):
            draw.line(part, self.color, width=2)
        self.mark(draw, (x + width / 2, y))

    def mark(self, draw: Drawing, place: Place) -> None:
        """Its marker."""
        x, y = place
        kind, r = _MARKERS[self.number % len(_MARKERS)], 4
        if kind == "disc":
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], self.color)
        elif kind == "cross":
            draw.line([(x - r, y - r), (x + r, y + r)], self.color, width=2)
            draw.line([(x - r, y + r), (x + r, y - r)], self.color, width=2)
        elif kind == "plus":
            draw.line([(x - r - 1, y), (x + r + 1, y)], self.color, width=2)
            draw.line([(x, y - r - 1), (x, y + r + 1)], self.color, width=2)
        else:
            corners = {
                "triangle": [(x, y - r - 1), (x + r + 1, y + r), (x - r - 1, y + r)],
                "square": [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
                "diamond": [(x, y - r - 1), (x + r + 1, y), (x, y + r + 1), (x - r - 1, y)],
            }[kind]
            draw.line([*corners, corners[0]], self.color, width=2)


def _parts(places: Sequence[Place], dashes: Sequence[float]) -> Iterator[list[Place]]:
    """The pieces of a line that are drawn."""
    if len(places) < 2 or not dashes:
        if len(places) > 1:
            yield list(places)
        return
    part, turn, left = [places[0]], 0, dashes[0]
    for (x, y), (to_x, to_y) in pairwise(places):
        length, gone = math.hypot(to_x - x, to_y - y), 0.0
        while length - gone > left:
            gone += left
            at = x + (to_x - x) * gone / length, y + (to_y - y) * gone / length
            if turn % 2 == 0:
                yield [*part, at]
            turn += 1
            part, left = [at], dashes[turn % len(dashes)]
        left -= length - gone
        part.append((to_x, to_y))
    if turn % 2 == 0 and len(part) > 1:
        yield part
