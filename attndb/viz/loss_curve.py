"""The loss curve of a training as a picture, drawn with PIL alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .axes import CURVES, INK, PAPER, Axes
from .letters import letters


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Running mean over up to `window` values around each point; same length."""
    array = np.asarray(values, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(array)])
    index = np.arange(len(array))
    low = np.maximum(0, index - window // 2)
    high = np.minimum(len(array), index + (window + 1) // 2)
    return (sums[high] - sums[low]) / np.maximum(1, high - low)


def loss_curve(
    losses: Mapping[str, Sequence[float]],
    title: str,
    size: tuple[int, int] = (768, 384),
    first: int = 1,
) -> Image.Image:
    """A panel over the steps for each of the losses, by its name, raw and smoothed and with a scale
    of its own; from the fourth on in two rows. `first`: number of the first step.
    """
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    font = letters(14)
    draw.text((16, 10), title, INK, font=letters(16))
    losses = losses or {"denoising": ()}
    rows = 1 if len(losses) <= 3 else 2
    columns = -(-len(losses) // rows)
    width, height = size[0] // columns, (size[1] - 24) // rows
    for number, (name, values) in enumerate(losses.items()):
        row, column = divmod(number, columns)
        top, colour = 24 + row * height, CURVES[number % len(CURVES)]
        box = (column * width + 64, top + 40, (column + 1) * width - 20, top + height - 40)
        draw.text((box[0], top + 16), f"{name} loss", colour, font=font)
        _panel(draw, box, values, colour, first)
    return image


def _panel(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    values: Sequence[float],
    color: tuple[int, int, int],
    first: int,
) -> None:
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        Axes(draw, box, 0.0, 1.0).empty()
        return
    low, high = min(0.0, *finite), max(finite)
    axes = Axes.around(draw, box, low, high if high > low else low + 1.0)
    axes.frame(str(first), f"{first - 1 + len(values)} steps")

    def points(series: Sequence[float] | np.ndarray) -> list[tuple[float, float]]:
        last = max(1, len(series) - 1)
        numbers = np.nan_to_num(np.asarray(series, dtype=np.float64))
        return [axes.point(i / last, float(value)) for i, value in enumerate(numbers)]

    pale = tuple(c // 3 + p * 2 // 3 for c, p in zip(color, PAPER, strict=True))
    if len(values) > 1:
        draw.line(points(values), pale)
        draw.line(points(smooth(values, max(1, len(values) // 12))), color, width=2)
    else:
        x, y = points(values)[0]
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], color)
