"""How a photo becomes a training crop: the published augmentation, with a mask of its fill.

The draw (numbers) is separate from its rendering (pixels), so that a draw can be repeated, cached
and compared. Rendering is PIL: the same bytes for the same draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..config.choices import Augmentation

MAX_ANGLE = 45.0
ROTATE_PROBABILITY = 0.75
FLIP_PROBABILITY = 0.25


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


def draw_crop(augmentation: Augmentation, generator: torch.Generator) -> Crop:
    """A draw of the published augmentation: rotate (p 0.75), flip (p 0.25), random crop.

    Always takes the same count of numbers from the generator, whatever they say.
    """
    rotate, angle, flip, left, top = torch.rand(5, generator=generator).tolist()
    if augmentation == "none":
        return Crop()
    turned = (2.0 * angle - 1.0) * MAX_ANGLE if rotate < ROTATE_PROBABILITY else 0.0
    return Crop(angle=turned, flip=flip < FLIP_PROBABILITY, left=left, top=top)


def render(image: Image.Image, crop: Crop, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """The crop's pixels (R, R, 3) in 0..1 and its mask (R, R): 1 photo, 0 fill; fp32.

    Rotation expands the canvas with black, the shorter side is scaled to the resolution, then a
    square is cut.
    """
    mask = Image.new("L", image.size, 255)
    if crop.angle:
        image = image.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
        mask = mask.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
    scale = resolution / min(image.size)
    width, height = (max(resolution, round(side * scale)) for side in image.size)
    x = round(crop.left * (width - resolution))
    y = round(crop.top * (height - resolution))
    box = (x, y, x + resolution, y + resolution)
    pixels = _cut(image.resize((width, height), Image.Resampling.LANCZOS), box, crop.flip)
    weights = _cut(mask.resize((width, height), Image.Resampling.BILINEAR), box, crop.flip)
    return pixels, (weights > 0.99).astype(np.float32)


def _cut(image: Image.Image, box: tuple[int, int, int, int], flip: bool) -> np.ndarray:
    piece = image.crop(box)
    if flip:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(piece, dtype=np.float32) / 255.0
