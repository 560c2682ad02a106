"""Buckets: shapes of crops that suit photos of other proportions, all about as large as the square.

A photo is cropped in the shape that is nearest to its own, so that little of it is cut away.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

Side: TypeAlias = int | tuple[int, int]
"""Of a crop: the side of a square, or width and height in pixels."""
_LONGEST = 2
"""How many times the square's side a bucket is long at most, and at least half of it short."""
_MOST_STEP = 64
"""Pixels between the sides of buckets: what a U-Net that halves three times can halve, of latents
at an eighth. Of small resolutions it is a quarter."""


def width_height(side: Side) -> tuple[int, int]:
    """Width and height of a crop."""
    return (side, side) if isinstance(side, int) else side


@functools.cache
def buckets(resolution: int) -> tuple[tuple[int, int], ...]:
    """Widths and heights whose area is at most that of the square, which is one of them; narrow
    ones first. Every one comes upright and lying."""
    step = min(_MOST_STEP, max(8, resolution // 32 * 8))
    shortest, longest = resolution / _LONGEST, resolution * _LONGEST
    found = {(resolution, resolution)}
    for width in range(step, longest + 1, step):
        height = resolution**2 // width // step * step
        if shortest <= min(width, height) and max(width, height) <= longest:
            found |= {(width, height), (height, width)}
    return tuple(sorted(found, key=lambda size: (size[0] / size[1], size)))


def bucket_of(photo: tuple[int, int], resolution: int) -> tuple[int, int]:
    """The bucket whose proportions are nearest to those of a photo of this width and height; of
    two as near, the larger."""
    wanted = math.log(photo[0] / photo[1])

    def distance(size: tuple[int, int]) -> tuple[float, int, int]:
        gap = abs(math.log(size[0] / size[1]) - wanted)
        return round(gap, 9), -size[0] * size[1], size[0]

    return min(buckets(resolution), key=distance)
