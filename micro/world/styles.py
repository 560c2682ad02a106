"""The four styles: how layers of place and objects become a picture."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .grain import grain
from .places import sharp_place, soft_place
from .scene import SIZE, Stand
from .solids import Array, Buffers
from .vocabulary import FLOATING
from .weather import in_front, light_object, light_place

_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + np.float32(0.5)


@dataclass(frozen=True)
class Layers:
    """Place and objects, back to front."""

    place: str
    variant: int
    light: str
    objects: tuple[tuple[Buffers, Stand], ...]


def _shadow(image: Array, place: str, objects: tuple[tuple[Buffers, Stand], ...]) -> Array:
    """Soft blobs on the ground below each object; smaller and lighter below one that jumps."""
    if place in FLOATING:
        return image
    for _, stand in objects:
        height = max(0.0, stand.foot - (stand.y + 0.95 * stand.half))
        wide, deep = stand.half * (1.0 - 0.012 * height), stand.half * 0.2
        u = (_COLUMNS - stand.x - 0.12 * stand.half) / wide
        v = (_ROWS - stand.foot + 1) / deep
        reach = np.clip(1.25 - np.sqrt(u * u + v * v), 0, 1)
        image = image * (1 - (0.5 - 0.012 * height) * reach * reach * (3 - 2 * reach))[..., None]
    return image


def _over(image: Array, colour: Array, cover: Array) -> Array:
    return image * (1 - cover[..., None]) + colour * cover[..., None]


def photo(layers: Layers) -> Array:
    """Soft light from the upper left, gloss, shadows, a lens with the place out of focus."""
    image = light_place(soft_place(layers.place, layers.variant), layers.light, layers.variant)
    image = _shadow(image, layers.place, layers.objects)
    for buffers, stand in layers.objects:
        fall = 1.05 - 0.1 * np.clip((_ROWS - stand.y) / stand.half, -1, 1)
        lit = buffers.albedo * (buffers.shade * fall)[..., None]
        lit = lit + buffers.gloss[..., None]
        image = _over(image, light_object(np.minimum(lit, 255), layers.light), buffers.cover)
    return in_front(image, layers.light, layers.variant)


def _edges(image: Array, threshold: float) -> Array:
    """(H, W) strength 0..1 of the borders between flat colours."""
    dx = np.abs(np.diff(image, axis=1, prepend=image[:, :1])).sum(axis=2)
    dy = np.abs(np.diff(image, axis=0, prepend=image[:1])).sum(axis=2)
    return np.clip(np.maximum(dx, dy) / threshold - 0.35, 0, 1)


@cache
def _place_lines(place: str, variant: int) -> Array:
    return _edges(sharp_place(place, variant), 150.0)


def _flat(layers: Layers, background: Array) -> tuple[Array, Array, Array]:
    """Colours without gloss, (H, W) cover of all objects, (H, W) shade (1 on the place)."""
    cover = np.zeros((SIZE, SIZE), np.float32)
    shade = np.ones((SIZE, SIZE), np.float32)
    for buffers, _ in layers.objects:
        colour = light_object(buffers.albedo, layers.light)
        background = _over(background, colour, buffers.cover)
        shade = shade * (1 - buffers.cover) + buffers.shade * buffers.cover
        cover = 1 - (1 - cover) * (1 - buffers.cover)
    return background, cover, shade


def sketch(layers: Layers) -> Array:
    """Pencil on paper: lines, a wash of the objects' colours, hatching where it is dark."""
    place = light_place(sharp_place(layers.place, layers.variant), layers.light, layers.variant)
    image, cover, shade = _flat(layers, place)
    paper = np.array((251, 247, 236), np.float32) * (1 + 0.012 * grain(4)[:SIZE, :SIZE, None])
    wash = (0.2 + 0.5 * cover)[..., None]
    base = paper * (1 - wash) + image * wash
    lines = _place_lines(layers.place, layers.variant) * 0.45 * (1 - cover)
    for buffers, _ in layers.objects:
        own = _edges(buffers.albedo * buffers.cover[..., None], 190.0)
        lines = np.maximum(lines * (1 - buffers.cover), own * 0.85)
    hatch = 0.5 + 0.5 * np.sin((_ROWS + _COLUMNS) * 0.8)
    dark = 0.6 * np.clip(1.02 - shade, 0, 0.4) * hatch * cover
    ink = np.array((62, 58, 70), np.float32)
    mark = np.maximum(lines, dark * 1.3)[..., None]
    return in_front(base * (1 - mark) + ink * mark, layers.light, layers.variant)


def pixel(layers: Layers) -> Array:
    """Sprites of 4 px blocks: few shades, a dark outline around the objects."""
    place = light_place(sharp_place(layers.place, layers.variant), layers.light, layers.variant)
    image, cover, shade = _flat(layers, place)
    image = image * (0.4 + 0.6 * np.round(shade * 5) / 5)[..., None]
    image = in_front(image, layers.light, layers.variant)

    def blocks(x: Array) -> Array:
        return x.reshape(SIZE // 4, 4, SIZE // 4, 4, *x.shape[2:]).mean(axis=(1, 3))

    solid = blocks(cover) > 0.5
    inside = np.where(solid[..., None], blocks(image * cover[..., None]), 0)
    inside = inside / np.maximum(blocks(cover), 1e-3)[..., None]
    small = np.where(solid[..., None], inside, blocks(image))
    pad = np.pad(solid, 1)
    around = pad[:-2, 1:-1] | pad[2:, 1:-1] | pad[1:-1, :-2] | pad[1:-1, 2:]
    small = np.where((around & ~solid)[..., None], 22.0, np.round(small / 20) * 20)
    return small.repeat(4, axis=0).repeat(4, axis=1).astype(np.float32)


def watercolour(layers: Layers) -> Array:
    """Thin colour on paper: blotches, pale edges, dark rims where the colour dried."""
    place = light_place(soft_place(layers.place, layers.variant), layers.light, layers.variant)
    image, cover, shade = _flat(layers, place)
    image = image * np.clip(0.35 + 0.65 * shade, 0, 1.05)[..., None]
    image = in_front(image, layers.light, layers.variant)
    wet = 0.5 * grain(32, 5) + 0.35 * grain(16, 5) + 0.15 * grain(4, 5)
    strength = 0.76 + 0.2 * wet[:SIZE, :SIZE] + 0.08 * cover
    u = np.maximum(np.abs(_COLUMNS - 64), np.abs(_ROWS - 64)) + 7 * wet[:SIZE, :SIZE]
    strength = strength * np.clip((62 - u) / 6, 0, 1)
    rims = np.zeros((SIZE, SIZE), np.float32)
    for buffers, _ in layers.objects:
        c = buffers.cover
        inner = np.minimum.reduce([np.roll(c, s, a) for s in (2, -2) for a in (0, 1)])
        rims = np.maximum(rims * (1 - c), c * (1 - inner))
    paper = np.array((253, 250, 243), np.float32)
    image = image * (1 - 0.3 * rims)[..., None]
    return paper * (1 - strength[..., None]) + image * strength[..., None]


STYLE_PAINTERS = {"photo": photo, "sketch": sketch, "pixel": pixel, "watercolour": watercolour}


def block_roles(roles: NDArray[np.uint8], cover: Array) -> NDArray[np.uint8]:
    """Roles as the pixel style shows them: one for each block of 4 px, 0 where it is place."""
    centre = roles[2::4, 2::4]
    solid = cover.reshape(SIZE // 4, 4, SIZE // 4, 4).mean(axis=(1, 3)) > 0.5
    return np.where(solid, centre, 0).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
