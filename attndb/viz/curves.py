"""Curves: series over training steps, several panels side by side, drawn with PIL alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .axes import CURVES, FONT, INK, PAPER, Axes


@dataclass(frozen=True)
class CurvePanel:
    """Values of some names over the same steps."""

    title: str
    steps: Sequence[int]
    series: Sequence[tuple[str, Sequence[float]]]
    """Name and values, one for each step; drawn in the pack's colours in turn."""


def curves(panels: Sequence[CurvePanel], size: tuple[int, int] = (768, 320)) -> Image.Image:
    """All panels side by side, each with a scale of its own from 0."""
    image = Image.new("RGB", size, PAPER)
    width = size[0] // max(1, len(panels))
    for number, panel in enumerate(panels):
        box = (number * width + 72, 64, (number + 1) * width - 20, size[1] - 36)
        _draw(ImageDraw.Draw(image), panel, box)
    return image


def _draw(draw: ImageDraw.ImageDraw, panel: CurvePanel, box: tuple[int, int, int, int]) -> None:
    font = ImageFont.load_default(size=FONT)
    draw.text((box[0], 14), panel.title, INK, font=ImageFont.load_default(size=FONT + 2))
    high = max((v for _, values in panel.series for v in values), default=0.0) or 1.0
    axes = Axes(draw, box, 0.0, high)
    if not panel.steps:
        axes.empty()
        return
    first, last = panel.steps[0], panel.steps[-1]
    axes.frame(str(first), f"step {last}")
    across = box[0]
    for index, (name, values) in enumerate(panel.series):
        color = CURVES[index % len(CURVES)]
        draw.text((across, 38), name, color, font=font)
        across += int(draw.textlength(name, font=font)) + 18
        points = [
            axes.point((step - first) / max(1, last - first), value)
            for step, value in zip(panel.steps, values, strict=True)
        ]
        if len(points) > 1:
            draw.line(points, color, width=2)
        for x, y in points:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], color)
