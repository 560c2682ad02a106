"""Masks: where the subject is on a photo; what a loss looks at, and where a crop may lie.

Shapes: R pixels of a side, Y X latent pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from einops import reduce
from PIL import Image

from ..config.printable import printable
from .augmentation import SUBJECT_LEVEL
from .bucket import Side, width_height
from .photo import DatasetError, Photo
from .photo_file import read_picture
from .upright import upright_mask

_STRETCH = 0.02
"""How far the shape of a mask may be from its photo's: rounding of sizes, no more."""
_LOOKED_AT = (64, 64)
_COLOURED, _SOFT, _PAINTED = 8, 16, 0.9
"""Levels, of 255, by which the channels of a mask may differ, and by which it may be away from
black and white; the share of its pixels that are not farther away."""


def read_mask(path: Path, name: str) -> Image.Image:
    """A mask file (mode L), white for the subject. DatasetError names one that is no picture."""
    return read_picture(path, name, lambda opened: upright_mask(opened, name))


def looks_like_mask(image: Image.Image) -> bool:
    """Whether a picture (RGB) is black and white, as a mask is and a photo is not."""
    some = np.asarray(image.resize(_LOOKED_AT, Image.Resampling.NEAREST), dtype=np.int16)
    ends = (some < _SOFT) | (some > 255 - _SOFT)
    return bool(np.ptp(some, axis=-1).max() <= _COLOURED and ends.mean() >= _PAINTED)


def masked(photo: Photo, mask: Image.Image, name: str) -> Photo:
    """The photo with a mask, which is scaled to its size. DatasetError, with `name` of the mask,
    if it has another shape or shows nothing."""
    shown, size = printable(name, 200), photo.image.size
    if abs(mask.width * size[1] / (mask.height * size[0]) - 1.0) > _STRETCH:
        raise DatasetError(
            f"{shown} is {mask.width} x {mask.height} px, and its photo {printable(photo.name)} "
            f"{size[0]} x {size[1]}: a mask has the shape of its photo; make it from this photo"
        )
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    if int(mask.getextrema()[1]) < SUBJECT_LEVEL:  # type: ignore[arg-type]
        raise DatasetError(
            f"{shown} is empty: it shows no subject; paint the subject white, or leave the mask out"
        )
    return replace(photo, mask=mask)


def with_masks(photos: Sequence[Photo], masks: Sequence[np.ndarray]) -> tuple[Photo, ...]:
    """Photos with masks, floats (height, width) in 0..1, one for each; none at all: as they are.
    DatasetError for another count, and names one that is no mask."""
    if not masks:
        return tuple(photos)
    if len(masks) != len(photos):
        raise DatasetError(
            f"there are {len(masks)} masks and {len(photos)} photos: give one mask for each photo, "
            "in the same order"
        )
    found = []
    for number, (photo, mask) in enumerate(zip(photos, masks, strict=True), start=1):
        if mask.ndim != 2 or 0 in mask.shape or not np.isfinite(mask).all():
            raise DatasetError(
                f"mask {number} has the shape {tuple(mask.shape)} or values that are no numbers: "
                "a mask is (height, width), 1 for the subject"
            )
        if mask.shape == (64, 64) and not mask.any() and photo.image.size != (64, 64):
            raise DatasetError(
                f"mask {number} is what Load Image gives for a picture without an alpha channel: "
                "make one with Mask Subject, or paint one (Open in MaskEditor)"
            )
        levels = np.round(np.clip(mask, 0.0, 1.0) * 255.0).astype(np.uint8)
        found.append(masked(photo, Image.fromarray(levels), f"mask {number}"))
    return tuple(found)


def checked_alpha(photos: Sequence[Photo]) -> tuple[Photo, ...]:
    """Photos whose masks are their alpha channels, which are held to what every mask is.
    DatasetError if there is none, and names one that shows nothing."""
    if photos and all(photo.mask is None for photo in photos):
        raise DatasetError(
            "alpha_masks is on, and no image has a transparent part: connect images with a fourth "
            "channel (Join Image with Alpha; Load Image gives three), connect masks, or turn it off"
        )
    return tuple(
        photo
        if photo.mask is None
        else masked(replace(photo, mask=None), photo.mask, f"the alpha channel of {photo.name}")
        for photo in photos
    )


def area_mean(levels: np.ndarray, side: Side) -> np.ndarray:
    """Shares of subject (1, side, side), fp32, in the pixels (R, R) uint8 of each latent pixel."""
    width, height = width_height(side)
    return reduce(
        levels.astype(np.float32), "(y a) (x b) -> 1 y x", "mean", y=height, x=width
    ) / np.float32(255.0)


def whole(side: Side) -> np.ndarray:
    """As `area_mean` of a photo without a mask: all of it counts."""
    width, height = width_height(side)
    return np.ones((1, height, width), dtype=np.float32)
