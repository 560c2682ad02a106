"""PIL pictures and the host's IMAGE tensors (batch, height, width, 3), fp32 in 0..1."""

from __future__ import annotations

import base64
import io as bytes_io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ....attndb.viz.letters import letters

MOST_SHOWN = 12
"""Pictures of a contact strip."""
_BACKGROUND, _TEXT = (28, 29, 33), (236, 236, 240)


def to_image(pictures: Sequence[Image.Image]) -> Tensor:
    """An IMAGE batch of pictures of one size."""
    arrays = [np.asarray(p.convert("RGB"), dtype=np.float32) / 255.0 for p in pictures]
    return torch.from_numpy(np.stack(arrays))


def to_mask(mask: Image.Image) -> Tensor:
    """A MASK batch of one; white is 1."""
    return torch.from_numpy(np.asarray(mask.convert("L"), dtype=np.float32) / 255.0)[None]


def from_image(image: Tensor) -> Image.Image:
    """The first picture of an IMAGE batch."""
    pixels = (image[0].clamp(0.0, 1.0) * 255.0).round().to("cpu", torch.uint8)
    return Image.fromarray(pixels.numpy())


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in a row, as they are; the only one is returned."""
    if len(pictures) == 1:
        return pictures[0]
    width, height = pictures[0].size
    row = Image.new("RGB", (width * len(pictures), height))
    for number, picture in enumerate(pictures):
        row.paste(picture, (width * number, 0))
    return row


def contact_strip(
    pictures: Sequence[Image.Image], side: int = 256, most: int = MOST_SHOWN
) -> Image.Image:
    """Pictures side by side, each centred in a square; of more than `most`, the first, and how many
    more there are."""
    shown = pictures[: most - 1] if len(pictures) > most else pictures
    more = len(pictures) - len(shown)
    strip = Image.new("RGB", (side * (len(shown) + bool(more)), side), _BACKGROUND)
    for number, picture in enumerate(shown):
        small = picture.copy()
        small.thumbnail((side, side))
        x = number * side + (side - small.width) // 2
        strip.paste(small, (x, (side - small.height) // 2))
    if more:
        place = (round(side * (len(shown) + 0.5)), side // 2)
        font = letters(side // 8)
        ImageDraw.Draw(strip).text(place, f"+{more} more", _TEXT, font=font, anchor="mm")
    return strip


def thumbnail_url(picture: Image.Image, side: int = 256) -> str:
    """A small JPEG as a data URL, for file metadata."""
    small = picture.copy()
    small.thumbnail((side, side))
    buffer = bytes_io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
