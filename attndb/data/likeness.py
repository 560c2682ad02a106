"""Photos that are nearly the same picture: trained on twice, and what they share is learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .photo import Photo

_SIDE = 8
_GAP = 8.0
"""Of Pillow's two steps to a small picture; with 2 a copy of another size is 13 levels away."""
_CLEAR = 4
"""Levels, of 255, between neighbours that are more than noise."""
_MOST_STEPS = 6 / 64
"""Share of the clear comparisons of neighbours that may differ (difference hash)."""
_PLAIN = 8.0
"""Levels by which a field may be away from the most of a picture and be ground, as it is."""
_MOST_COLOUR = 12.0
"""Mean difference of 8 x 8 colours, of 255, where one of two pictures is not plain ground: a small
thing on white is most of neither picture, and all that there is to compare."""


def alike(photos: Sequence[Photo]) -> list[tuple[str, str]]:
    """Names of photos that are the same picture, or nearly: copies, other sizes or qualities of one
    photo, shots of one burst. Each photo is named with the first that it is like."""
    if len(photos) < 2:
        return []
    small = [_small(photo.image) for photo in photos]
    colours = np.stack([colour for colour, _ in small])
    steps = np.stack([step for _, step in small])
    things = np.stack([_thing(colour) for colour, _ in small])
    found = []
    for later in range(1, len(photos)):
        clear = np.maximum(np.abs(steps[:later]), np.abs(steps[later])) > _CLEAR
        other = clear & ((steps[:later] > 0) != (steps[later] > 0))
        like = other.sum(axis=(1, 2)) <= _MOST_STEPS * clear.sum(axis=(1, 2))
        away = np.abs(colours[:later] - colours[later]).mean(axis=-1)
        compared = things[:later] | things[later]
        compared[~compared.any(axis=(1, 2))] = True
        distance = away.mean(axis=(1, 2), where=compared)
        same = np.flatnonzero(like & (distance <= _MOST_COLOUR))
        if len(same):
            found.append((photos[int(same[0])].name, photos[later].name))
    return found


def _small(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours (8, 8, 3) of 8 x 8 fields, and by how much each is darker than the one on its
    right (8, 8)."""
    box = Image.Resampling.BOX
    colours = image.resize((_SIDE, _SIDE), box, reducing_gap=_GAP)
    grey = np.asarray(image.resize((_SIDE + 1, _SIDE), box, reducing_gap=_GAP).convert("L"))
    grey = grey.astype(np.int16)
    return np.asarray(colours, dtype=np.float32), grey[:, 1:] - grey[:, :-1]


def _thing(colours: np.ndarray) -> np.ndarray:
    """Which fields (8, 8) are not of the colour that most of a picture has."""
    return np.abs(colours - np.median(colours, axis=(0, 1))).max(axis=-1) > _PLAIN
