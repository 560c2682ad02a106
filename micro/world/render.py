"""Scene -> picture and true mask. Same scene, same bytes."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from .places import FLOATING, HI, VARIANTS, paint_place
from .shapes import (
    ACCENT,
    BADGE,
    BADGES,
    BODY,
    DARK,
    GLASS,
    LEAF,
    LIGHT,
    SECOND,
    SHAPES,
    TOPPER,
    TOPPERS,
)
from .vocabulary import CATEGORIES, COLOURS, PATTERN_PARTNERS, PATTERNS, PLACES, STYLES

SIZE = 64  # px of a scene, both ways
SCALE = HI // SIZE

RGB = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What makes a held-out subject itself: colours and parts that no caption can name."""

    body: RGB
    partner: RGB  # second colour of the pattern
    second: RGB  # the parts that are a darker shade of the body in the base world
    pattern: str
    badge: str
    badge_colour: RGB
    topper: str
    topper_colour: RGB


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that decides a picture; positions and sizes in px of the 64 px picture."""

    category: str
    colour: str
    pattern: str
    place: str
    style: str
    x: float = 32.0  # centre of the object
    y: float = 35.0
    half: float = 19.0  # half its height
    variant: int = 0
    identity: Identity | None = field(default=None)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("category", self.category, CATEGORIES),
            ("colour", self.colour, COLOURS),
            ("pattern", self.pattern, PATTERNS),
            ("place", self.place, PLACES),
            ("style", self.style, STYLES),
        ):
            if value not in known:
                raise ValueError(
                    f"Scene: {name} '{value}' is not in the world; use one of {list(known)}"
                )
        if not 0 <= self.variant < VARIANTS:
            raise ValueError(f"Scene: variant {self.variant} must be in 0..{VARIANTS - 1}")


@cache
def _place(place: str, variant: int) -> np.ndarray:
    return np.asarray(paint_place(place, variant), dtype=np.float32)


def _draw(draw: ImageDraw.ImageDraw, role: int, kind: str, points: list[float]) -> None:
    if kind == "box":
        draw.rectangle(points, fill=role)
    elif kind == "ellipse":
        draw.ellipse(points, fill=role)
    elif kind == "dome":
        draw.pieslice(points, 180, 360, fill=role)
    else:
        draw.polygon(points, fill=role)


def _roles(scene: Scene) -> np.ndarray:
    """(HI, HI) map of part roles, 0 where there is no object."""
    shape = SHAPES[scene.category]
    image = Image.new("L", (HI, HI))
    draw = ImageDraw.Draw(image)

    def place(points: tuple[float, ...], at: tuple[float, float] = (0.0, 0.0)) -> list[float]:
        centre = (scene.x, scene.y)
        return [
            (centre[i % 2] + (p + at[i % 2]) * scene.half) * SCALE for i, p in enumerate(points)
        ]

    for role, kind, points in shape.parts:
        _draw(draw, role, kind, place(points))
    if scene.identity is not None:
        kind, points = BADGES[scene.identity.badge]
        _draw(draw, BADGE, kind, place(points, shape.badge))
        kind, points = TOPPERS[scene.identity.topper]
        _draw(draw, TOPPER, kind, place(points, shape.top))
    return np.asarray(image)


_GRID = (np.arange(HI, dtype=np.float32) + 0.5) / SCALE


def _pattern_weight(scene: Scene, pattern: str) -> np.ndarray:
    """(HI, HI) share of the pattern's second colour, anchored to the object."""
    u, v = _GRID[None, :] - scene.x, _GRID[:, None] - scene.y
    if pattern == "striped":
        return np.broadcast_to((np.floor(v / 4) % 2).astype(np.float32), (HI, HI))
    if pattern == "checked":
        return ((np.floor(u / 4) + np.floor(v / 4)) % 2).astype(np.float32)
    if pattern == "spotted":
        row = np.floor(v / 7)
        du = (u + 3.5 * (row % 2)) % 7 - 3.5
        dv = v % 7 - 3.5
        return (du**2 + dv**2 < 2.2**2).astype(np.float32)
    if pattern == "faded":
        ramp = np.clip((v / scene.half + 0.55) / 1.1, 0, 1)
        return np.broadcast_to(ramp, (HI, HI)).astype(np.float32)
    return np.zeros((HI, HI), dtype=np.float32)


def _flat(scene: Scene, roles: np.ndarray) -> np.ndarray:
    """(HI, HI, 3) object colours without light or style; undefined outside the object."""
    who = scene.identity
    body = np.array(who.body if who else COLOURS[scene.colour], dtype=np.float32)
    partner = who.partner if who else PATTERN_PARTNERS[scene.colour]
    pattern = who.pattern if who else scene.pattern
    palette = np.zeros((10, 3), dtype=np.float32)
    palette[BODY] = body
    palette[SECOND] = who.second if who else body * 0.68
    palette[DARK] = (45, 42, 48)
    palette[LIGHT] = (248, 244, 232)
    palette[ACCENT] = (250, 165, 30)
    palette[LEAF] = (60, 140, 60)
    palette[GLASS] = (170, 220, 245)
    palette[BADGE] = who.badge_colour if who else 0
    palette[TOPPER] = who.topper_colour if who else 0
    flat = palette[roles]
    if pattern != "plain":
        weight = (_pattern_weight(scene, pattern) * (roles == BODY))[..., None]
        flat = flat * (1 - weight) + np.array(partner, dtype=np.float32) * weight
    return flat


def _shrink(image: np.ndarray, factor: int = SCALE) -> np.ndarray:
    h, w = image.shape[0] // factor, image.shape[1] // factor
    return image.reshape(h, factor, w, factor, *image.shape[2:]).mean(axis=(1, 3))


def _photo(scene: Scene, background: np.ndarray, flat: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Soft light from the upper left and a shadow on the ground."""
    u = (_GRID[None, :] - scene.x) / scene.half
    v = (_GRID[:, None] - scene.y) / scene.half
    if scene.place not in FLOATING:
        distance = (u / 0.95) ** 2 + ((v - 1.0) / 0.22) ** 2
        background = background * (1 - 0.45 * np.clip(1.6 - 1.6 * distance, 0, 1))[..., None]
    light = np.clip(1.08 - 0.17 * (u + v), 0.75, 1.3)[..., None]
    return _shrink(np.where(mask[..., None], flat * light, background))


def _edges(image: np.ndarray) -> np.ndarray:
    """(HI, HI) 1 where neighbouring flat colours differ."""
    dx = np.abs(image[:, 1:] - image[:, :-1]).sum(-1) > 40
    dy = np.abs(image[1:] - image[:-1]).sum(-1) > 40
    edge = np.zeros((HI, HI), dtype=np.float32)
    edge[:, 1:] += dx
    edge[:, :-1] += dx
    edge[1:] += dy
    edge[:-1] += dy
    return np.minimum(edge, 1)


def _sketch(background: np.ndarray, flat: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Dark pencil lines on paper; the object keeps a wash of its colour, the place less of it."""
    image = np.where(mask[..., None], flat, background)
    paper = np.array((252, 249, 240), dtype=np.float32)
    wash = np.where(mask, 0.62, 0.16)[..., None]
    line = np.clip(_shrink(_edges(image)) * 1.4, 0, 1)[..., None]
    return _shrink(paper * (1 - wash) + image * wash) * (1 - 0.72 * line)


def _pixel(background: np.ndarray, flat: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """32 x 32 sprites: hard pixels, a black outline, few shades."""
    half = slice(SCALE, None, 2 * SCALE)
    small, solid = np.where(mask[..., None], flat, background)[half, half], mask[half, half]
    with_stage = np.pad(solid, 1)
    around = (
        with_stage[:-2, 1:-1] | with_stage[2:, 1:-1] | with_stage[1:-1, :-2] | with_stage[1:-1, 2:]
    )
    small = np.where((around & ~solid)[..., None], 8.0, np.round(small / 36) * 36)
    return small.repeat(2, axis=0).repeat(2, axis=1)


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The picture, (64, 64, 3) uint8, and the object's mask, (64, 64) bool."""
    background = _place(scene.place, scene.variant)
    roles = _roles(scene)
    mask = roles > 0
    flat = _flat(scene, roles)
    if scene.style == "photo":
        image = _photo(scene, background, flat, mask)
    elif scene.style == "sketch":
        image = _sketch(background, flat, mask)
    else:
        image = _pixel(background, flat, mask)
    true_mask = _shrink(mask.astype(np.float32)) > 0.5
    return np.clip(np.round(image), 0, 255).astype(np.uint8), true_mask
