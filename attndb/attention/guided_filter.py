"""The guided filter: brings the edges of a picture into a coarse map of it.

Shapes: Y x X pixels; in the code B = 1, C colours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def guided_filter(map_YX: Tensor, picture_YX3: Tensor, radius: int, smooth: float) -> Tensor:
    """The map as a locally linear function of the picture's colours, (Y, X).

    In every window of 2 `radius` + 1 pixels (less at the border) the map is fitted by a . I + b, by
    least squares with `smooth` |a|^2; a pixel gets the mean of a and of b over the windows that it
    lies in. `smooth`: a variance of colours (of 0..1), what is less is no edge.

    Source: He, Sun and Tang, Guided image filtering (2013), equations 14 to 16, for colours.
    """
    picture_B3YX = picture_YX3.float().permute(2, 0, 1)[None]
    map_B1YX = map_YX.float()[None, None]
    mean_B3YX, mean_B1YX = _box(picture_B3YX, radius), _box(map_B1YX, radius)
    with_map_B3YX = _box(picture_B3YX * map_B1YX, radius) - mean_B3YX * mean_B1YX
    squares = _box((picture_B3YX[:, :, None] * picture_B3YX[:, None]).flatten(1, 2), radius)
    spread = squares.unflatten(1, (3, 3)) - mean_B3YX[:, :, None] * mean_B3YX[:, None]
    spread_BYXCC = spread.permute(0, 3, 4, 1, 2) + smooth * torch.eye(3, device=spread.device)
    slope_BYXC = torch.linalg.solve(spread_BYXCC, with_map_B3YX.permute(0, 2, 3, 1))
    slope_B3YX = slope_BYXC.permute(0, 3, 1, 2)
    level_B1YX = mean_B1YX - (slope_B3YX * mean_B3YX).sum(dim=1, keepdim=True)
    fitted = (_box(slope_B3YX, radius) * picture_B3YX).sum(dim=1, keepdim=True)
    return (fitted + _box(level_B1YX, radius))[0, 0]


def _box(values_BCYX: Tensor, radius: int) -> Tensor:
    """Mean over a square around each pixel, of what lies in the picture: of rows, then columns."""
    side = 2 * radius + 1
    rows = F.avg_pool2d(
        values_BCYX, (side, 1), stride=1, padding=(radius, 0), count_include_pad=False
    )
    return F.avg_pool2d(rows, (1, side), stride=1, padding=(0, radius), count_include_pad=False)
