"""Scatter: two scores of each name against each other, with the interval of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .axes import FAINT, FONT, INK, PAPER, Axes, step_of, steps_around
from .drawing import Drawing
from .letters import letters
from .strokes import Stroke
from .svg import SvgDrawing

Span = tuple[float, float, float]
"""A mean, and the low and the high end of its interval."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
_LEFT, _TOP, _RIGHT, _BELOW = 64, 46, 24, 54
"""Pixels around the box."""


@dataclass(frozen=True)
class ScatterPoint:
    """A name and its two scores."""

    name: str
    x: Span
    y: Span


@dataclass(frozen=True)
class Scatter:
    """Points over two scales, which hold all intervals. Right and up is better."""

    points: Sequence[ScatterPoint]
    x_title: str
    y_title: str

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("scatter: there is no point to draw")


def scatter(figure: Scatter, size: tuple[int, int] = (900, 620)) -> Image.Image:
    """As pixels."""
    image = Image.new("RGB", size, PAPER)
    _draw(ImageDraw.Draw(image), figure, size)
    return image


def scatter_svg(figure: Scatter, size: tuple[int, int] = (900, 620)) -> str:
    """The same as an `<svg>` element."""
    drawing = SvgDrawing(size)
    _draw(drawing, figure, size)
    return drawing.markup()


def _draw(draw: Drawing, figure: Scatter, size: tuple[int, int]) -> None:
    box = (_LEFT, _TOP, size[0] - _RIGHT, size[1] - _BELOW)
    axes = Axes.around(draw, box, *_ends([point.y for point in figure.points]))
    axes.frame("", "")
    across = _upright(axes, *_ends([point.x for point in figure.points]))
    font = letters(FONT)
    draw.text((_LEFT, 14), figure.y_title, INK, font=letters(FONT + 2))
    draw.text((box[2], box[3] + 30), figure.x_title, INK, font=letters(FONT + 2), anchor="ra")

    places = [axes.point(across(point.x[0]), point.y[0]) for point in figure.points]
    for number, (point, (x, y)) in enumerate(zip(figure.points, places, strict=True)):
        color = Stroke(number).color
        ends = [axes.point(across(end), point.y[0])[0] for end in point.x[1:]]
        draw.line([(ends[0], y), (ends[1], y)], color)
        ends = [axes.point(0.0, end)[1] for end in point.y[1:]]
        draw.line([(x, ends[0]), (x, ends[1])], color)
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for number, (point, place) in enumerate(zip(figure.points, places, strict=True)):
        Stroke(number).mark(draw, place)
        room = _free(place, draw.textlength(point.name, font=font), taken, box)
        taken.append(room)
        draw.text(room[:2], point.name, Stroke(number).color, font=font)


def _ends(spans: Sequence[Span]) -> tuple[float, float]:
    low, high = min(span[1] for span in spans), max(span[2] for span in spans)
    return low, high if high > low else low + 1.0


def _upright(axes: Axes, low: float, high: float) -> Callable[[float], float]:
    """Lines at even values of the lower scale, written below; where a value lies, 0..1."""
    left, top, right, bottom = axes.box
    step = step_of(low, high, max(3, (right - left) // 90))
    first, last = steps_around(low, high, step)

    def across(value: float) -> float:
        return (value / step - first) / (last - first)

    for number in range(first, last + 1):
        x, _ = axes.point(across(number * step), axes.low)
        axes.draw.line([(x, top), (x, bottom)], FAINT)
        label = f"{number * step:.6g}"
        axes.draw.text((x, bottom + 8), label, INK, font=letters(FONT), anchor="ma")
    return across


def _free(place: tuple[float, float], width: float, taken: Sequence[Box], within: Box) -> Box:
    """Where a name stands beside its point: the first place that lies on no other, else the one
    that covers least."""
    (x, y), high = place, FONT + 4.0
    sides = [
        (x + gap if to_right else x - gap - width, y + down)
        for gap in (8.0, 24.0)
        for down in (-high - 4, 4.0, -high / 2, -2 * high - 4, high + 4)
        for to_right in (True, False)
    ]
    boxes = [(a, b, a + width, b + high) for a, b in sides]
    inside = [box for box in boxes if box[0] >= within[0] and box[2] <= within[2]]
    return min(inside or boxes, key=lambda box: sum(_shared(box, other) for other in taken))


def _shared(a: Box, b: Box) -> float:
    """Pixels that two boxes share."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)
