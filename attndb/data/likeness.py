"""Photos that are nearly the same picture: trained on twice, and what they share is learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .photo import Photo

_SIDE = 8
_MOST_BITS = 6
"""Of 64 comparisons of neighbours, how many may differ (difference hash)."""
_MOST_COLOUR = 12.0
"""Mean difference of 8 x 8 colours, of 255."""


def alike(photos: Sequence[Photo]) -> list[tuple[str, str]]:
    """Names of photos that are the same picture, or nearly: copies, other sizes or qualities of one
    photo, shots of one burst. Each photo is named with the first that it is like."""
    if len(photos) < 2:
        return []
    small = [_small(photo.image) for photo in photos]
    colours = np.stack([colour for colour, _ in small]).reshape(len(photos), -1)
    signs = np.stack([sign for _, sign in small]).reshape(len(photos), -1)
    found = []
    for later in range(1, len(photos)):
        bits = (signs[:later] != signs[later]).sum(axis=1)
        distance = np.abs(colours[:later] - colours[later]).mean(axis=1)
        same = np.flatnonzero((bits <= _MOST_BITS) & (distance <= _MOST_COLOUR))
        if len(same):
            found.append((photos[int(same[0])].name, photos[later].name))
    return found


def _small(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours of 8 x 8 fields, and whether each field is darker than the one on its right."""
    box = Image.Resampling.BOX
    colours = image.resize((_SIDE, _SIDE), box, reducing_gap=2.0)
    grey = np.asarray(image.resize((_SIDE + 1, _SIDE), box, reducing_gap=2.0).convert("L"))
    grey = grey.astype(np.int16)
    return np.asarray(colours, dtype=np.float32), grey[:, 1:] > grey[:, :-1]
