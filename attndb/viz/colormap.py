"""ColourMap: a table that turns values 0..1 into colours of rising lightness."""

from __future__ import annotations

import numpy as np

_ANCHORS = np.array(
    [
        (8, 8, 32),
        (48, 16, 92),
        (112, 22, 120),
        (176, 38, 108),
        (224, 72, 74),
        (246, 126, 44),
        (252, 184, 60),
        (250, 232, 132),
        (255, 255, 236),
    ],
    dtype=np.float64,
)
"""Night blue, violet, red, orange, cream: dark to light, so that it also reads in grey."""


def colour_table(size: int = 256) -> np.ndarray:
    """Colours from dark (0) to light (1), (size, 3), uint8."""
    if size < 2:
        raise ValueError(f"size = {size}: use at least 2 colours")
    places = np.linspace(0, len(_ANCHORS) - 1, size)
    channels = [np.interp(places, range(len(_ANCHORS)), _ANCHORS[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


_TABLE = colour_table()


def colours(values: np.ndarray) -> np.ndarray:
    """Colours of values, cut to 0..1: (..., 3) uint8."""
    return _TABLE[(np.clip(np.nan_to_num(values), 0, 1) * 255).round().astype(np.int64)]
