"""Curves: series over training steps, in panels, drawn with PIL alone or as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .axes import FONT, INK, PAPER, Axes
from .drawing import Drawing
from .letters import letters
from .strokes import Stroke
from .svg import SvgDrawing

_HEAD, _ROW, _SAMPLE = 44, 20, 34
"""Pixels of a title, of a row of names, and of the piece of line before a name."""


@dataclass(frozen=True)
class Curve:
    """Values of one name over steps of its own."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    """One for each step."""
    stroke: int | None = None
    """Which of the pack's strokes; None: in turn."""
    marks: Sequence[tuple[int, str]] = ()
    """Steps of it from which a line goes down to the axis, and what is written there."""


@dataclass(frozen=True)
class CurvePanel:
    """Curves over a common axis of steps."""

    title: str
    curves: Sequence[Curve]
    low: float | None = 0.0
    """Lowest value that the scale holds; None: the smallest of the curves."""
    high: float | None = None
    """Highest value that the scale holds; None: the largest of the curves."""

    @property
    def steps(self) -> tuple[int, int] | None:
        """First and last step of all curves; None without any."""
        steps = [step for curve in self.curves for step in curve.steps]
        return (min(steps), max(steps)) if steps else None

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest value that it holds."""
        values = [value for curve in self.curves for value in curve.values]
        high = max(values, default=0.0) if self.high is None else self.high
        low = min(values, default=0.0) if self.low is None else self.low
        return low, high if high > low else low + 1.0


def curves(
    panels: Sequence[CurvePanel], size: tuple[int, int] = (768, 320), columns: int = 0
) -> Image.Image:
    """All panels, side by side or in rows of so many, each with a scale of its own."""
    image = Image.new("RGB", size, PAPER)
    _draw_all(ImageDraw.Draw(image), panels, size, columns)
    return image


def curves_svg(
    panels: Sequence[CurvePanel], size: tuple[int, int] = (768, 320), columns: int = 0
) -> str:
    """The same as an `<svg>` element."""
    drawing = SvgDrawing(size)
    _draw_all(drawing, panels, size, columns)
    return drawing.markup()


def _draw_all(
    draw: Drawing, panels: Sequence[CurvePanel], size: tuple[int, int], columns: int
) -> None:
    columns = columns or max(1, len(panels))
    rows = max(1, -(-len(panels) // columns))
    width, height = size[0] // columns, size[1] // rows
    lines = max((len(_named(draw, panel, width - 92)) for panel in panels), default=1)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = column * width + 72, row * height
        below = top + _HEAD + lines * _ROW
        draw.text((left, top + 14), panel.title, INK, font=letters(FONT + 2))
        _names(draw, panel, (left, top + 38), width - 92)
        _draw(draw, panel, (left, below, left + width - 92, top + height - 36))


def _draw(draw: Drawing, panel: CurvePanel, box: tuple[int, int, int, int]) -> None:
    axes = Axes.around(draw, box, *panel.scale)
    if panel.steps is None:
        axes.empty()
        return
    first, last = panel.steps
    axes.frame(str(first), f"step {last}")
    for curve, stroke in _stroked(panel):
        places = {
            step: axes.point((step - first) / max(1, last - first), value)
            for step, value in zip(curve.steps, curve.values, strict=True)
        }
        for step, said in curve.marks:
            if step in places:
                x, y = places[step]
                draw.line([(x, y), (x, box[3])], stroke.color)
                draw.text((x, box[3] + 8), said, stroke.color, font=letters(FONT), anchor="ma")
        stroke.draw(draw, list(places.values()))


def _stroked(panel: CurvePanel) -> list[tuple[Curve, Stroke]]:
    return [
        (curve, Stroke(number if curve.stroke is None else curve.stroke))
        for number, curve in enumerate(panel.curves)
    ]


def _names(draw: Drawing, panel: CurvePanel, place: tuple[int, int], width: int) -> None:
    """What the curves are called, each behind a piece of its line."""
    left, top = place
    for row, names in enumerate(_named(draw, panel, width)):
        y = top + row * _ROW
        for across, curve, stroke in names:
            x = left + across
            stroke.sample(draw, (x, y + 9), _SAMPLE - 8)
            draw.text((x + _SAMPLE, y), curve.name, stroke.color, font=letters(FONT))


def _named(draw: Drawing, panel: CurvePanel, width: int) -> list[list[tuple[float, Curve, Stroke]]]:
    """The curves in rows that fit into so many pixels, each with its place in the row."""
    rows: list[list[tuple[float, Curve, Stroke]]] = [[]]
    across = 0.0
    for curve, stroke in _stroked(panel):
        wide = _SAMPLE + draw.textlength(curve.name, font=letters(FONT))
        if rows[-1] and across + wide > width:
            rows.append([])
            across = 0.0
        rows[-1].append((across, curve, stroke))
        across += wide + 18
    return rows
