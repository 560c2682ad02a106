"""Light and weather: what they do to the place and to what stands in it."""

from functools import cache

import numpy as np

from .places import HORIZON
from .scene import SIZE
from .solids import Array

_TINT = {  # light on place and object
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.05, 0.84, 0.68),
    "night": (0.42, 0.5, 0.72),
    "rain": (0.76, 0.80, 0.86),
    "fog": (0.97, 0.98, 1.0),
}
_OBJECT = {  # the subject keeps more of its own colour than the place
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.06, 0.93, 0.80),
    "night": (0.62, 0.68, 0.86),
    "rain": (0.88, 0.90, 0.94),
    "fog": (1.0, 1.0, 1.0),
}
_MIST = np.array((224, 229, 234), dtype=np.float32)


@cache
def _rise() -> Array:
    """(SIZE, 1, 1) 1 at the top of the sky, 0 from the horizon down."""
    rows = np.clip(1 - np.arange(SIZE, dtype=np.float32) / HORIZON, 0, 1)
    return rows[:, None, None]


@cache
def _streaks(variant: int) -> Array:
    """(SIZE, SIZE, 1) rain in 0..1: soft slanted strokes."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    sheet = np.zeros((SIZE, SIZE), np.float32)
    rng = np.random.default_rng((variant, 1))
    for x, y in rng.integers((0, -8), (SIZE + 12, SIZE), size=(36, 2)):
        along = rows - y
        across = columns - x + along / 3
        stroke = np.clip(1.3 - np.abs(across), 0, 1) * np.clip(1.5 - np.abs(along - 6) / 6, 0, 1)
        sheet = np.maximum(sheet, stroke)
    return 0.42 * sheet[..., None]


@cache
def _stars(variant: int) -> Array:
    """(SIZE, SIZE, 1) stars in the sky in 0..1."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    sheet = np.zeros((SIZE, SIZE), np.float32)
    rng = np.random.default_rng((variant, 2))
    for x, y in rng.integers((2, 2), (SIZE - 2, HORIZON - 16), size=(18, 2)):
        r = np.hypot(columns - x, rows - y)
        sheet = np.maximum(sheet, np.clip(1.5 + 0.3 * (x % 3) - r, 0, 1))
    return sheet[..., None]


def light_place(image: Array, light: str, variant: int) -> Array:
    """The place (H, W, 3) in this light."""
    sky = np.clip(_rise() * 8, 0, 1)
    if light == "sunset":
        top, low = np.array((150, 96, 150), np.float32), np.array((255, 150, 70), np.float32)
        f = np.clip(_rise() * 1.15, 0, 1)
        glow = top * f + low * (1 - f)
        image = image * np.array(_TINT[light], dtype=np.float32)
        return image * (1 - 0.72 * sky) + glow * 0.72 * sky
    if light == "night":
        grey = image.mean(axis=2, keepdims=True)
        image = (0.55 * image + 0.45 * grey) * np.array(_TINT[light], dtype=np.float32)
        deep = np.array((22, 30, 74), np.float32)
        image = image * (1 - 0.62 * sky) + deep * 0.62 * sky
        stars = _stars(variant)
        return image * (1 - stars) + np.float32(236) * stars
    image = image * np.array(_TINT[light], dtype=np.float32)
    if light == "rain":
        return 0.6 * image + 0.4 * image.mean(axis=2, keepdims=True)
    if light == "fog":
        depth = 0.62 + 0.12 * _rise()
        return image * (1 - depth) + _MIST * depth
    return image


def light_object(image: Array, light: str) -> Array:
    """An object's colours (H, W, 3) in this light."""
    image = image * np.array(_OBJECT[light], dtype=np.float32)
    return image * 0.76 + _MIST * 0.24 if light == "fog" else image


def in_front(image: Array, light: str, variant: int) -> Array:
    """What falls between the lens and everything: rain."""
    if light != "rain":
        return image
    streaks = _streaks(variant)
    return image * (1 - streaks) + np.float32(222) * streaks
