"""Numbers of an attention map: mass, entropy, overlap with a mask, likeness of two maps.

Maps are (..., Y, X) and not negative; a number comes out for each leading place.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BINS = 256


def mass(maps: Tensor) -> Tensor:
    """Mean over the pixels: the share of the attention that the word gets, 0..1."""
    return maps.float().mean(dim=(-2, -1))


def entropy(maps: Tensor) -> Tensor:
    """How spread out a map is: 0 all in one pixel, 1 the same everywhere.

    Shannon entropy of the map as a distribution over its N pixels, divided by log N.
    """
    flat = maps.float().flatten(-2)
    share = flat / flat.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    found = -torch.xlogy(share, share).sum(dim=-1)
    return found / math.log(max(flat.shape[-1], 2))


def otsu_threshold(values: Tensor) -> float:
    """The threshold that parts values into two classes of least variance (Otsu, 1979).

    256 bins from least to most; the centre of the best bin. A flat map gives its own value.
    """
    flat = values.float().flatten().cpu()  # fp64, which not every device has
    low, high = float(flat.min()), float(flat.max())
    if high <= low:
        return low
    counts = torch.histc(flat, bins=_BINS, min=low, max=high).double()
    width = (high - low) / _BINS
    centres = low + width * (torch.arange(_BINS, dtype=torch.float64) + 0.5)
    below, above = counts.cumsum(0), counts.flip(0).cumsum(0).flip(0)
    mean_below = (counts * centres).cumsum(0) / below.clamp(min=1)
    mean_above = (counts * centres).flip(0).cumsum(0).flip(0) / above.clamp(min=1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[int(between.argmax())])


def otsu_mask(map_YX: Tensor) -> Tensor:
    """The bright part of one map, bool, (Y, X); empty for a flat map."""
    return map_YX.float() > otsu_threshold(map_YX)


def iou_with_mask(map_YX: Tensor, mask_YX: Tensor) -> float:
    """Intersection over union of a map's bright part (Otsu) and a mask (above 0.5).

    The map is brought to the mask's size (bicubic). Two empty sets agree wholly: 1.
    """
    if map_YX.shape != mask_YX.shape:
        size = (mask_YX.shape[-2], mask_YX.shape[-1])
        map_YX = F.interpolate(
            map_YX.float()[None, None], size=size, mode="bicubic", align_corners=False
        )[0, 0]
    bright, wanted = otsu_mask(map_YX), mask_YX > 0.5
    union = (bright | wanted).sum()
    return 1.0 if union == 0 else float((bright & wanted).sum() / union)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of two maps of one size: 1 the same shape, whatever their strength."""
    return F.cosine_similarity(first.float().flatten(-2), second.float().flatten(-2), dim=-1)
