"""One object: its parts in their colours, one over the other, each with its contact shadow."""

import numpy as np
from numpy.typing import NDArray

from .grain import TILE, grain
from .scene import Look, Stand
from .shapes import ACCENT, BADGE, BODY, DARK, GLASS, HAT, HELD, LEAF, LIGHT, SECOND, SHAPES, Part
from .solids import Array, Buffers, Frame, Patch, solid
from .wardrobe import BADGES, HATS, HELD_THINGS, moved

_FIXED = {
    DARK: (58, 54, 62),
    LIGHT: (250, 247, 238),
    ACCENT: (248, 160, 36),
    LEAF: (72, 150, 66),
    GLASS: (168, 218, 246),
}
GLOSS = {"smooth": 26.0, "shiny": 120.0, "fuzzy": 0.0, "wooden": 8.0}
UNIT = 34.0  # px of the unit box that patterns are drawn for


def palette(look: Look) -> dict[int, tuple[int, int, int]]:
    """Role -> colour."""
    return _FIXED | {
        BODY: look.body,
        SECOND: look.second,
        BADGE: look.badge_colour,
        HAT: look.hat_colour,
        HELD: look.held_colour,
    }


def parts_of(category: str, look: Look) -> tuple[Part, ...]:
    """All parts in the order of drawing; what is held comes first, behind the rest."""
    shape = SHAPES[category]
    parts: tuple[Part, ...] = ()
    if look.held is not None:
        parts += moved(HELD_THINGS[look.held], shape.hand)
    parts += shape.parts
    if look.badge is not None:
        parts += moved(BADGES[look.badge], shape.badge)
    if look.hat is not None:
        parts += moved(HATS[look.hat], shape.top)
    return parts


def _soft(wave: Array, sharp: float) -> Array:
    return np.clip(0.5 + sharp * wave, 0, 1).astype(np.float32)


def _pattern(pattern: str, u: Array, v: Array) -> Array:
    """Share of the pattern's second colour at unit coordinates."""
    x, y = u * np.float32(UNIT), v * np.float32(UNIT)
    if pattern == "striped":
        return _soft(np.sin(y * np.float32(2 * np.pi / 14)), 1.5)
    if pattern == "checked":
        return _soft(np.sin(x * np.float32(np.pi / 8)) * np.sin(y * np.float32(np.pi / 8)), 2.0)
    row = np.floor(y / 12)
    dx = (x + 6 * (row % 2)) % 12 - 6
    dy = y % 12 - 6
    return _soft(3.8 - np.sqrt(dx * dx + dy * dy), 0.5)


def _texture(finish: str, u: Array, v: Array) -> Array:
    """Factor on the body's light: the finish's own grain, fixed to the object."""
    x = (u * UNIT + TILE / 2).astype(int) % TILE
    y = (v * UNIT + TILE / 2).astype(int) % TILE
    if finish == "fuzzy":
        return 1 + 0.09 * grain(2)[y, x] + 0.08 * grain(4)[y, x]
    rings = np.sin((v * UNIT + 5 * grain(32)[y, x] + 0.25 * u * UNIT) * 1.1)
    return 0.97 + 0.1 * rings.astype(np.float32)


def _albedo(role: int, look: Look, frame: Frame, patch: Patch) -> tuple[Array, Array]:
    """Colour (h, w, 3) and shade (h, w) of a part on its window."""
    colour = np.array(palette(look)[role], dtype=np.float32)
    shade, albedo = patch.shade, np.broadcast_to(colour, (*patch.shade.shape, 3))
    if role not in (BODY, SECOND):
        return albedo, shade
    u, v = frame.local(patch.window)
    if role == BODY and look.pattern != "plain":
        weight = _pattern(look.pattern, u, v)[..., None]
        albedo = albedo * (1 - weight) + np.array(look.partner, dtype=np.float32) * weight
    if look.finish in ("fuzzy", "wooden"):
        shade = shade * _texture(look.finish, u, v)
    return albedo, shade


def _lay(buffers: Buffers, role: int, patch: Patch, albedo: Array, shade: Array, gloss: float):
    window, cover = patch.window, patch.cover
    near = np.clip(1 - patch.distance / 4.5, 0, 1)
    buffers.shade[window] *= 1 - 0.2 * near * near  # contact shadow on what lies below
    rest = 1 - cover
    buffers.albedo[window] = buffers.albedo[window] * rest[..., None] + albedo * cover[..., None]
    buffers.shade[window] = buffers.shade[window] * rest + shade * cover
    buffers.gloss[window] = buffers.gloss[window] * rest + patch.shine * gloss * cover
    buffers.cover[window] = 1 - (1 - buffers.cover[window]) * rest
    roles: NDArray[np.uint8] = buffers.roles[window]
    roles[cover > 0.5] = role


def paint_object(category: str, look: Look, stand: Stand) -> Buffers:
    """The object's buffers; colours without light in albedo, so that styles can choose.

    Behind a soft edge the albedo is mixed with black where nothing lay before: divide by the
    cover (`flat`) to get it alone.
    """
    buffers, frame = Buffers(), Frame(stand, look.wide, look.tall)
    for part in parts_of(category, look):
        patch = solid(part, frame)
        if patch is None:
            continue
        role = part[0]
        albedo, shade = _albedo(role, look, frame, patch)
        gloss = GLOSS[look.finish] if role in (BODY, SECOND) else 30.0
        _lay(buffers, role, patch, albedo, shade, gloss)
    cover = np.maximum(buffers.cover, 1e-4)
    buffers.albedo /= cover[..., None]
    return buffers
