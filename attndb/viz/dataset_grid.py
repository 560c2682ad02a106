"""DatasetGrid: photos and the crops that training sees of them, in rows, with words and advice.

Pictures are (Y, X, 3) fp32 in 0..1, weights (Y, X) in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .grid import BACKGROUND, table
from .heatmaps import Cell, HeatmapStyle
from .text_panel import text_panel

UNCOUNTED = (0.55, 0.10, 0.25)
"""Colour over what does not count in the loss."""
_VEIL = 0.6
_GAP = 10


@dataclass(frozen=True)
class GridRow:
    """One photo."""

    title: str
    cells: tuple[Cell, ...]
    """The whole photo, then its crops."""


def veiled(picture: Tensor, counted_YX: Tensor) -> Tensor:
    """The picture under a veil where it does not count, half a veil where it counts half."""
    veil = _VEIL * (1.0 - counted_YX.float())[..., None]
    return (1.0 - veil) * picture.float() + veil * picture.new_tensor(UNCOUNTED).float()


def squared(picture: Tensor, side: int) -> Tensor:
    """The whole picture in the middle of a square, (side, side, 3)."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    moved = picture.float().permute(2, 0, 1)[None]
    small = F.interpolate(moved, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    ground = torch.tensor(BACKGROUND).float().div(255).expand(side, side, 3).clone()
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    ground[top : top + size[0], left : left + size[1]] = small.clamp(0, 1)
    return ground


def dataset_grid(
    title: str, rows: Sequence[GridRow], advice: Sequence[str], cell: int = 192
) -> Tensor:
    """All rows below a title and above the advice, (Y, X, 3) in 0..1."""
    style = HeatmapStyle(cell=cell, normalization="shared")
    longest = max(len(row.cells) for row in rows)
    bodies = [table([_filled(row.cells, longest)], style, title=row.title) for row in rows]
    width = bodies[0].shape[1]
    parts = [text_panel([title], width, 18), *bodies]
    if advice:
        parts.append(text_panel([f"! {line}" for line in advice], width, 15))
    return torch.cat(parts)


def _filled(cells: Sequence[Cell], count: int) -> list[Cell]:
    """The cells, and empty ones up to a count: rows are of one width."""
    return [*cells, *[Cell("")] * (count - len(cells))]
