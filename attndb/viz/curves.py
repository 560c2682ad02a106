"""Curves: series over training steps, in panels, drawn with PIL alone or as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .axes import FAINT, FONT, INK, PAPER, SERIES, Axes
from .drawing import Drawing
from .letters import letters
from .svg import SvgDrawing


@dataclass(frozen=True)
class Curve:
    """Values of one name over steps of its own."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    """One for each step."""
    color: int | None = None
    """Which of the pack's colours; None: in turn."""


@dataclass(frozen=True)
class CurvePanel:
    """Curves over a common axis of steps."""

    title: str
    curves: Sequence[Curve]
    low: float | None = 0.0
    """Bottom of the scale; None: the smallest value."""
    high: float | None = None
    """Top of the scale; None: the largest value."""
    marks: Sequence[tuple[int, str]] = ()
    """Steps at which a faint line stands, and what is written beside it."""

    @property
    def steps(self) -> tuple[int, int] | None:
        """First and last step of all curves; None without any."""
        steps = [step for curve in self.curves for step in curve.steps]
        return (min(steps), max(steps)) if steps else None

    @property
    def scale(self) -> tuple[float, float]:
        """Bottom and top."""
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
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = column * width, row * height
        _draw(draw, panel, (left + 72, top + 64, left + width - 20, top + height - 36))


def _draw(draw: Drawing, panel: CurvePanel, box: tuple[int, int, int, int]) -> None:
    font = letters(FONT)
    top = box[1] - 64
    draw.text((box[0], top + 14), panel.title, INK, font=letters(FONT + 2))
    axes = Axes(draw, box, *panel.scale)
    if panel.steps is None:
        axes.empty()
        return
    first, last = panel.steps
    axes.frame(str(first), f"step {last}")
    for step, said in panel.marks:
        x = box[0] + (step - first) / max(1, last - first) * (box[2] - box[0])
        draw.line([(x, box[1]), (x, box[3])], FAINT)
        draw.text((x, box[3] + 8), said, INK, font=font, anchor="ma")
    across = box[0]
    for index, curve in enumerate(panel.curves):
        color = SERIES[(index if curve.color is None else curve.color) % len(SERIES)]
        draw.text((across, top + 38), curve.name, color, font=font)
        across += int(draw.textlength(curve.name, font=font)) + 18
        points = [
            axes.point((step - first) / max(1, last - first), value)
            for step, value in zip(curve.steps, curve.values, strict=True)
        ]
        if len(points) > 1:
            draw.line(points, color, width=2)
        for x, y in points:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], color)
