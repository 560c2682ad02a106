"""Heat maps: a word map laid over its picture, and how it is to look.

Pictures are (Y, X, 3) fp32 in 0..1, maps (Y, X) and not negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .colormap import colours

Normalization = Literal["per word", "shared"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)


@dataclass(frozen=True, kw_only=True)
class HeatmapStyle:
    """How a grid of heat maps looks."""

    cell: int = 256
    """Longer side of one picture in pixels, at least 64."""
    opacity: float = 0.65
    """Share of the heat colour over the picture: 0 shows the picture alone, 1 the map alone."""
    normalization: Normalization = "per word"
    """`per word`: each map from its own least to its own most, stated below it. `shared`: one
    scale for all, so that strengths can be compared; stated in one bar."""
    columns: int = 0
    """Cells in a row; 0 chooses a wide rectangle."""

    def __post_init__(self) -> None:
        if self.cell < 64:
            raise ValueError(f"cell = {self.cell}: use 64 pixels or more")
        if not 0.0 <= self.opacity <= 1.0:
            raise ValueError(f"opacity = {self.opacity:g}: use 0 to 1")
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization = {self.normalization!r}: choose {' or '.join(NORMALIZATIONS)}"
            )
        if self.columns < 0:
            raise ValueError(f"columns = {self.columns}: use 0 (automatic) or more")


@dataclass(frozen=True)
class Cell:
    """One place of a grid."""

    caption: str
    picture: Tensor | None = None
    """(Y, X, 3) in 0..1; a plain ground without."""
    heat: Tensor | None = None
    """(Y, X); the picture alone without."""
    detail: str = ""
    """A number or remark next to the caption."""


def resize_map(map_YX: Tensor, height: int, width: int) -> Tensor:
    """A map at another size, (height, width): bicubic, below 0 cut off."""
    if map_YX.shape == (height, width):
        return map_YX
    size = (height, width)
    sized = F.interpolate(map_YX.float()[None, None], size=size, mode="bicubic")
    return sized[0, 0].clamp(min=0)


def scaled(map_YX: Tensor, low: float, high: float) -> Tensor:
    """The map with `low` at 0 and `high` at 1, cut to 0..1; a flat map gives 0."""
    return ((map_YX - low) / max(high - low, 1e-12)).clamp(0, 1)


def overlay(picture: Tensor, heat_YX: Tensor, opacity: float) -> Tensor:
    """The picture, greyed, under the colours of a map that is scaled to 0..1; (Y, X, 3)."""
    height, width = picture.shape[:2]
    heat = torch.from_numpy(colours(resize_map(heat_YX, height, width).cpu().numpy())).float() / 255
    grey = (picture.float() @ picture.new_tensor([0.299, 0.587, 0.114]).float())[..., None]
    under = opacity * grey + (1 - opacity) * picture.float()
    # Grey keeps the picture's drawing, so that its own colours are not read as heat.
    return (1 - opacity) * under + opacity * heat * (0.7 + 0.3 * grey)
