"""EvaluationGrid: a row of pictures for each prompt, a column for each concept, photos on top."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .dataset_grid import squared
from .grid import table
from .heatmaps import Cell, HeatmapStyle
from .text_panel import text_panel

MOST_ROWS = 40
"""More are not shown: a picture has to be opened by a browser."""


def evaluation_grid(
    photos: Sequence[Tensor],
    prompts: Sequence[str],
    rows: Sequence[Sequence[Tensor]],
    labels: Sequence[str],
    cell: int,
    *,
    title: str = "",
) -> Tensor:
    """(Y, X, 3) in 0..1. `rows`: for each prompt a picture (Y, X, 3) by each of the labels."""
    style = HeatmapStyle(cell=cell)
    shown = [squared(photo, cell) for photo in photos[: len(labels)]]
    first = rows[0][0]
    height, width = first.shape[:2]
    cells = [Cell(f"photo {n + 1}", _fitted(p, height, width)) for n, p in enumerate(shown)]
    cells += [Cell("")] * (len(labels) - len(cells))
    parts = [table([cells], style, title=title)]
    for prompt, pictures in list(zip(prompts, rows, strict=True))[:MOST_ROWS]:
        own = [Cell(label, p) for label, p in zip(labels, pictures, strict=True)]
        parts.append(table([own], style, title=prompt))
    if len(rows) > MOST_ROWS:
        parts.append(text_panel([f"and {len(rows) - MOST_ROWS} more"], parts[0].shape[1], 15))
    return torch.cat(parts)


def _fitted(square: Tensor, height: int, width: int) -> Tensor:
    """The middle of a square picture, of the shape of the others: cells have one shape."""
    side = square.shape[0]
    scale = side / max(height, width)
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (side - tall) // 2, (side - wide) // 2
    return square[top : top + tall, left : left + wide]
