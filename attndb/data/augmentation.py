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
    square is cut: the published order of operations, on the photo as it is.
    """
    return as_floats(*render_bytes(image, crop, resolution))


def render_bytes(image: Image.Image, crop: Crop, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """As `render`, at a quarter of the memory: pixels (R, R, 3) uint8, and whether each is photo
    (R, R) bool."""
    mask = Image.new("L", image.size, 255)
    if crop.angle:
        image = image.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
        mask = mask.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
    size = scaled_size(image.size, resolution)
    pixels = cut(image.resize(size, Image.Resampling.LANCZOS), crop, resolution)
    weights = cut(mask.resize(size, Image.Resampling.BILINEAR), crop, resolution)
    return pixels, weights.astype(np.float32) / 255.0 > 0.99


def render_levels(mask: Image.Image, crop: Crop, resolution: int) -> np.ndarray:
    """The same piece of a photo's mask (mode L) as `render_bytes` gives of the photo, (R, R) uint8;
    0 where rotation filled."""
    if crop.angle:
        mask = mask.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
    size = scaled_size(mask.size, resolution)
    return cut(mask.resize(size, Image.Resampling.BILINEAR), crop, resolution)


def as_floats(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `render_bytes` gives as what `render` gives."""
    return pixels.astype(np.float32) / 255.0, mask.astype(np.float32)


def scaled_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """Width and height of a photo whose shorter side is scaled to the resolution."""
    scale = resolution / min(size)
    width, height = (max(resolution, round(side * scale)) for side in size)
    return width, height


def cut(image: Image.Image, crop: Crop, resolution: int) -> np.ndarray:
    """The crop's square of a scaled photo, uint8."""
    x = round(crop.left * (image.width - resolution))
    y = round(crop.top * (image.height - resolution))
    piece = image.crop((x, y, x + resolution, y + resolution))
    if crop.flip:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(piece)
