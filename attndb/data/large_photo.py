"""LargePhoto: a photo with more pixels than its crops can show, reduced once for all of them.

A crop of R pixels shows a phone photo of 12 megapixels at a sixth of its size. Turning and scaling
all of them again for every sample costs more than a training step. So a photo whose shorter side
is longer than DETAIL x R is reduced to that before it is turned; smaller ones keep the published
order of operations to the byte (docs/speed.md says how far the crops of a reduced photo differ).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from .augmentation import Crop, cut, keeping_subject, render_bytes, render_levels, scaled_size
from .bucket import Side, width_height

DETAIL = 2
"""Pixels along a side, for each of the crop's, that a photo keeps before it is turned: bilinear
interpolation takes away what is finer than two."""


def is_large(image: Image.Image, side: Side) -> bool:
    """Whether a photo holds more than its crops can show."""
    wanted = width_height(side)
    return all(length > DETAIL * least for length, least in zip(image.size, wanted, strict=True))


class LargePhoto:
    """A large photo's crops, cut from two copies that are made when first needed."""

    def __init__(self, image: Image.Image, side: Side, mask: Image.Image | None = None) -> None:
        """`mask`: where the subject is, as large as the photo."""
        self._image = image
        self._mask = mask
        self._side = side
        width, height = width_height(side)
        self._detailed = DETAIL * width, DETAIL * height

    @cached_property
    def _to_turn(self) -> Image.Image:
        size = scaled_size(self._image.size, self._detailed)
        return self._image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)

    @cached_property
    def _to_cut(self) -> Image.Image:
        size = scaled_size(self._image.size, self._side)
        return self._image.resize(size, Image.Resampling.LANCZOS)

    def render_bytes(self, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """As `augmentation.render_bytes`: the same bytes unless the crop is turned."""
        if crop.angle:
            return render_bytes(self._to_turn, crop, self._side)
        pixels = cut(self._to_cut, crop, self._side)
        return pixels, np.ones(pixels.shape[:2], dtype=bool)

    @cached_property
    def _small_mask(self) -> Image.Image | None:
        if self._mask is None:
            return None
        size = scaled_size(self._mask.size, self._detailed)
        return self._mask.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)

    def keeping_subject(self, crop: Crop) -> Crop:
        """As `augmentation.keeping_subject`; the crop as it is without a mask."""
        mask = self._small_mask
        return crop if mask is None else keeping_subject(crop, mask, self._side)

    def render_levels(self, crop: Crop) -> np.ndarray | None:
        """As `augmentation.render_levels`; None without a mask."""
        mask = self._small_mask
        return None if mask is None else render_levels(mask, crop, self._side)
