"""How a photo becomes a training crop: the published augmentation, with a mask of its fill.

Each part of it can be left out, and a crop can be moved to where the subject is whole.

The draw (numbers) is separate from its rendering (pixels), so that a draw can be repeated, cached
and compared. Rendering is PIL: the same bytes for the same draw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from ..config.choices import Augmentation
from ..config.data import DataConfig
from .bucket import Side, width_height

MAX_ANGLE = 45.0
ROTATE_PROBABILITY = 0.75
FLIP_PROBABILITY = 0.25
SUBJECT_LEVEL = 128
"""Brightness of a mask, of 255, from which on it means the subject."""


@dataclass(frozen=True)
class Crop:
    """One draw of the augmentation."""

    angle: float = 0.0
    """Degrees, counter-clockwise."""
    flip: bool = False
    """Mirrored left to right."""
    left: float = 0.5
    """Horizontal place of the crop in the room there is, 0..1."""
    top: float = 0.5
    """Vertical place, 0..1."""


def draw_crop(
    augmentation: Augmentation,
    generator: torch.Generator,
    *,
    max_angle: float = MAX_ANGLE,
    flip: bool = True,
    random_crop: bool = True,
) -> Crop:
    """A draw of the published augmentation: rotate (p 0.75), flip (p 0.25), random crop.

    Always takes the same count of numbers from the generator, whatever they say, and whichever
    parts are left out: the others draw what they would with all of them.
    """
    rotates, angle, flips, left, top = torch.rand(5, generator=generator).tolist()
    if augmentation == "none":
        return Crop()
    turned = (2.0 * angle - 1.0) * max_angle if rotates < ROTATE_PROBABILITY else 0.0
    place = (left, top) if random_crop else (0.5, 0.5)
    return Crop(turned or 0.0, flip and flips < FLIP_PROBABILITY, *place)


def draw_crop_of(data: DataConfig, generator: torch.Generator) -> Crop:
    """`draw_crop` of a stage's settings."""
    return draw_crop(
        data.augmentation,
        generator,
        max_angle=data.max_angle,
        flip=data.flip,
        random_crop=data.random_crop,
    )


def keeping_subject(crop: Crop, mask: Image.Image, side: Side) -> Crop:
    """The crop where the subject's box is whole in it: its place is a place in the room that is
    left then. If the box is longer than a crop, the crop lies within it.

    `mask` (mode L) is the photo's. One without a subject leaves the crop as it is.
    """
    scaled, (width, height) = _scaled_mask(mask, crop, side), width_height(side)
    box = scaled.point([0] * SUBJECT_LEVEL + [255] * (256 - SUBJECT_LEVEL)).getbbox()
    if box is None:
        return crop
    left, top, right, bottom = box
    return replace(
        crop,
        left=_place(crop.left, left, right, scaled.width, width),
        top=_place(crop.top, top, bottom, scaled.height, height),
    )


def _place(place: float, first: int, last: int, length: int, side: int) -> float:
    """Where, 0..1 of all the room, a crop lies that was drawn at `place` of the room in which it
    keeps pixels first..last (last one out) of a side."""
    room = length - side
    low, high = (min(max(0, edge), room) for edge in sorted((last - side, first)))
    return (low + place * (high - low)) / room if room else place


def render(image: Image.Image, crop: Crop, side: Side) -> tuple[np.ndarray, np.ndarray]:
    """The crop's pixels (R, R, 3) in 0..1 and its mask (R, R): 1 photo, 0 fill; fp32. Of a crop
    that is no square they are (height, width).

    Rotation expands the canvas with black, the shorter side is scaled to the resolution, then a
    square is cut: the published order of operations, on the photo as it is.
    """
    return as_floats(*render_bytes(image, crop, side))


def render_bytes(image: Image.Image, crop: Crop, side: Side) -> tuple[np.ndarray, np.ndarray]:
    """As `render`, at a quarter of the memory: pixels (R, R, 3) uint8, and whether each is photo
    (R, R) bool."""
    mask = Image.new("L", image.size, 255)
    if crop.angle:
        image = image.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
        mask = mask.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
    size = scaled_size(image.size, side)
    pixels = cut(image.resize(size, Image.Resampling.LANCZOS), crop, side)
    weights = cut(mask.resize(size, Image.Resampling.BILINEAR), crop, side)
    return pixels, weights.astype(np.float32) / 255.0 > 0.99


def render_levels(mask: Image.Image, crop: Crop, side: Side) -> np.ndarray:
    """The same piece of a photo's mask (mode L) as `render_bytes` gives of the photo, (R, R) uint8;
    0 where rotation filled."""
    return cut(_scaled_mask(mask, crop, side), crop, side)


def _scaled_mask(mask: Image.Image, crop: Crop, side: Side) -> Image.Image:
    """A photo's mask, turned and scaled as the photo is."""
    if crop.angle:
        mask = mask.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
    return mask.resize(scaled_size(mask.size, side), Image.Resampling.BILINEAR)


def as_floats(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `render_bytes` gives as what `render` gives."""
    return pixels.astype(np.float32) / 255.0, mask.astype(np.float32)


def scaled_size(size: tuple[int, int], side: Side) -> tuple[int, int]:
    """Width and height of a photo that is scaled until it just covers the crop: of a square one,
    its shorter side to the resolution."""
    wanted = width_height(side)
    scale = max(least / length for least, length in zip(wanted, size, strict=True))
    width, height = (
        max(least, round(length * scale)) for least, length in zip(wanted, size, strict=True)
    )
    return width, height


def cut(image: Image.Image, crop: Crop, side: Side) -> np.ndarray:
    """The crop's piece of a scaled photo, uint8."""
    width, height = width_height(side)
    x = round(crop.left * (image.width - width))
    y = round(crop.top * (image.height - height))
    piece = image.crop((x, y, x + width, y + height))
    if crop.flip:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(piece)
