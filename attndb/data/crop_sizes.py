"""What a crop is of its photo in pixels, as SDXL is told it (SDXL, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .augmentation import Crop, scaled_size
from .bucket import Side, width_height
from .latent_source import LatentSource
from .photo import Photo

Sizes = tuple[int, int, int, int, int, int]
"""Height and width of the photo as it was, top and left of the crop in it once turned and scaled,
height and width of the crop."""


def crop_sizes(size: tuple[int, int], crop: Crop, side: Side) -> Sizes:
    """Of a crop of this shape that is cut so from a photo of this width and height. Left is counted
    in the picture as it is seen: of a mirrored crop from the mirrored photo's edge."""
    wide, high = width_height(side)
    width, height = scaled_size(turned_size(size, crop.angle), side)
    left, top = round(crop.left * (width - wide)), round(crop.top * (height - high))
    if crop.flip:
        left = width - wide - left
    return size[1], size[0], top, left, high, wide


def turned_size(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """Width and height of PIL's canvas for a picture that is turned by `angle` degrees and shown
    whole (Image.rotate with expand)."""
    angle %= 360.0
    if angle % 90.0 == 0.0:
        return size if angle % 180.0 == 0.0 else (size[1], size[0])
    turn = -math.radians(angle)
    cosine, sine = round(math.cos(turn), 15), round(math.sin(turn), 15)
    middle_x, middle_y = (side / 2 for side in size)
    x0 = cosine * -middle_x + sine * -middle_y + middle_x
    y0 = -sine * -middle_x + cosine * -middle_y + middle_y
    corners = ((0, 0), (size[0], 0), size, (0, size[1]))
    xs = [cosine * x + sine * y + x0 for x, y in corners]
    ys = [-sine * x + cosine * y + y0 for x, y in corners]
    return math.ceil(max(xs)) - math.floor(min(xs)), math.ceil(max(ys)) - math.floor(min(ys))


class KnownSizes:
    """The sizes of samples, worked out once for each crop of a photo."""

    def __init__(self, source: LatentSource) -> None:
        """`source`: which cuts them."""
        self._source = source
        self._known: dict[tuple[str, Crop], Sizes] = {}

    def of(self, samples: Sequence[tuple[Photo, Crop]]) -> Tensor:
        """(B, 6) fp32."""
        return torch.tensor([self._of(photo, crop) for photo, crop in samples], dtype=torch.float32)

    def _of(self, photo: Photo, crop: Crop) -> Sizes:
        key = (photo.key, crop)
        if key not in self._known:
            cut = self._source.placed(photo, crop)
            self._known[key] = crop_sizes(photo.image.size, cut, self._source.side_of(photo))
        return self._known[key]
