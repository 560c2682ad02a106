"""A concept in a region of a picture: its prompts, its weights and where they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import comfy.hooks
import torch
from torch import Tensor

SIDE = 512
"""Of a region's mask, which the host resizes to the picture."""

Canvas = Literal["region", "picture"]
"""What a region's prompt is drawn in: a picture as large as the region, or the whole one."""
_AREAS: dict[Canvas, str] = {"region": "mask bounds", "picture": "default"}
"""The host's names."""
_PAIR = ("positive", "negative")


@dataclass(frozen=True)
class Region:
    """A rectangle, in shares of the picture's width and height."""

    left: float
    top: float
    width: float
    height: float
    feather: float = 0.0
    """How far its edge fades outwards, in the same shares."""

    def mask(self) -> Tensor:
        """(1, SIDE, SIDE), 1 inside, fading to 0. ValueError if it holds no pixel of a picture."""
        shown = f"left {self.left:g}, top {self.top:g}, {self.width:g} x {self.height:g}"
        if self.width <= 0 or self.height <= 0 or self.left >= 1 or self.top >= 1:
            raise ValueError(
                f"the region ({shown}) is empty: left and top below 1, width and height above 0"
            )
        across = self._ramp(self.left, self.left + self.width)
        down = self._ramp(self.top, self.top + self.height)
        return (down[:, None] * across[None, :])[None]

    def _ramp(self, first: float, last: float) -> Tensor:
        """(SIDE,): how much of a row or a column is between these shares; the picture's own edge
        is none."""
        places = (torch.arange(SIDE) + 0.5) / SIDE
        outside = torch.maximum(first - places, places - last).clamp(min=0.0)
        if self.feather <= 0:
            return (outside == 0).float()
        return (1.0 - outside / self.feather).clamp(min=0.0)


def placed(
    pair: tuple[Any, Any],
    mask: Tensor,
    hooks: comfy.hooks.HookGroup,
    canvas: Canvas,
    before: tuple[Any | None, Any | None] = (None, None),
) -> tuple[Any, Any]:
    """Positive and negative CONDITIONING that hold where the mask is, with these hooks, combined
    with what was placed before. ValueError where the mask is nowhere, or half of what was before is
    missing: the guidance would have nothing to stand against there."""
    if not bool((mask > 0).any()):
        raise ValueError(
            "mask is empty (0 everywhere), so the region holds no pixel: connect the mask of the "
            "region, or none and use left, top, width and height"
        )
    there = [name for name, part in zip(_PAIR, before, strict=True) if part is not None]
    if len(there) == 1:
        [missing] = [name for name in _PAIR if name not in there]
        raise ValueError(
            f"{there[0]} is connected and {missing} is not: outside of the region there would be "
            "no such prompt, and the picture breaks. Connect both"
        )
    positive, negative = comfy.hooks.set_conds_props_and_combine(
        [part or [] for part in before], list(pair), 1.0, _AREAS[canvas], mask=mask, hooks=hooks
    )
    return positive, negative
