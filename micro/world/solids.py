"""Rounded solids by signed distance: cover, light and role of every pixel of one object.

Legend: H, W pixels of the picture; h, w pixels of a part's window; E edges of a polygon.
"""

from dataclasses import dataclass, field
from math import cos, sin

import numpy as np
from numpy.typing import NDArray

from .scene import SIZE, Stand
from .shapes import Part

Array = NDArray[np.floating]  # float32, and float64 from where whole numbers came in

_LIGHT = np.array((-0.44, -0.58, 0.685), dtype=np.float32)
_TO_LENS = np.array((0, 0, 1), dtype=np.float32)
_HALFWAY = (_LIGHT + _TO_LENS) / np.linalg.norm(_LIGHT + _TO_LENS)
AMBIENT, DIFFUSE = 0.50, 0.70
_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + np.float32(0.5)
EDGE = 2.2  # px over which a part's edge fades: what a lens of this size would see
MARGIN = 6  # px around a part: its contact shadow reaches so far


@dataclass
class Buffers:
    """What the parts of one object leave behind, before colour meets light."""

    albedo: Array = field(default_factory=lambda: np.zeros((SIZE, SIZE, 3), np.float32))
    shade: Array = field(default_factory=lambda: np.ones((SIZE, SIZE), np.float32))
    gloss: Array = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.float32))
    cover: Array = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.float32))
    roles: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((SIZE, SIZE), np.uint8))


@dataclass(frozen=True)
class Frame:
    """An object's own coordinates: unit box, turned and stretched."""

    stand: Stand
    wide: float = 1.0
    tall: float = 1.0

    def local(self, window: tuple[slice, slice]) -> tuple[Array, Array]:
        """Unit coordinates (h, w) of the pixels of a window."""
        x, y = _COLUMNS[window] - self.stand.x, _ROWS[window] - self.stand.y
        c, s = np.float32(cos(self.stand.angle)), np.float32(sin(self.stand.angle))
        return (
            (c * x + s * y) / np.float32(self.stand.half * self.wide),
            (c * y - s * x) / np.float32(self.stand.half * self.tall),
        )

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice] | None:
        """The pixels around a box of unit coordinates; None where it lies outside."""
        c, s = cos(self.stand.angle), sin(self.stand.angle)
        corners = [
            (px * self.stand.half * self.wide, py * self.stand.half * self.tall)
            for px in (x0, x1)
            for py in (y0, y1)
        ]
        xs = [self.stand.x + c * px - s * py for px, py in corners]
        ys = [self.stand.y + s * px + c * py for px, py in corners]
        left, right = max(0, int(min(xs)) - MARGIN), min(SIZE, int(max(xs)) + MARGIN + 1)
        top, bottom = max(0, int(min(ys)) - MARGIN), min(SIZE, int(max(ys)) + MARGIN + 1)
        if left >= right - 1 or top >= bottom - 1:
            return None
        return slice(top, bottom), slice(left, right)

    @property
    def scale(self) -> float:
        """Px of a unit of distance."""
        return self.stand.half * min(self.wide, self.tall)


def _box(u: Array, v: Array, numbers: tuple[float, ...], r: float) -> tuple[Array, float]:
    x0, y0, x1, y1 = numbers
    half_x, half_y = (x1 - x0) / 2, (y1 - y0) / 2
    qx = np.abs(u - (x0 + x1) / 2) - (half_x - r)
    qy = np.abs(v - (y0 + y1) / 2) - (half_y - r)
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2)
    return outside + np.minimum(np.maximum(qx, qy), 0) - r, 0.7 * min(half_x, half_y)


def _poly(u: Array, v: Array, numbers: tuple[float, ...], r: float) -> tuple[Array, float]:
    """Exact distance to a polygon, minus its rounding."""
    a_E2 = np.array(numbers, dtype=np.float32).reshape(-1, 2)
    b_E2 = np.roll(a_E2, 1, axis=0)
    ax, ay = a_E2[:, 0, None, None], a_E2[:, 1, None, None]
    ex, ey = (b_E2 - a_E2)[:, 0, None, None], (b_E2 - a_E2)[:, 1, None, None]
    wx, wy = u - ax, v - ay  # (E, h, w)
    t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
    distance = np.sqrt(((wx - ex * t) ** 2 + (wy - ey * t) ** 2).min(axis=0))
    above, below = wy >= 0, v < b_E2[:, 1, None, None]
    left = ex * wy > ey * wx
    crossed = (above & below & left) | (~above & ~below & ~left)
    inside = (crossed.sum(axis=0) % 2).astype(bool)
    return np.where(inside, -distance, distance) - np.float32(r), 0.16


def _oval(u: Array, v: Array, numbers: tuple[float, ...]) -> tuple[Array, Array, Array, Array]:
    """Distance, and the normal of the ball: (d, nx, ny, rise) with rise 0 on top, 1 at the rim."""
    x0, y0, x1, y1 = numbers
    rx, ry = (x1 - x0) / 2, (y1 - y0) / 2
    px, py = (u - (x0 + x1) / 2) / np.float32(rx), (v - (y0 + y1) / 2) / np.float32(ry)
    k1 = np.sqrt(px * px + py * py)
    gx, gy = px / np.float32(rx), py / np.float32(ry)
    k2 = np.sqrt(gx * gx + gy * gy) + np.float32(1e-6)
    return k1 * (k1 - 1) / k2, gx / k2, gy / k2, np.minimum(k1, 1)


def _bounds(kind: str, numbers: tuple[float, ...], r: float) -> tuple[float, float, float, float]:
    if kind == "ring":
        x, y, radius, thick = numbers
        reach = radius + thick
        return x - reach, y - reach, x + reach, y + reach
    xs, ys = numbers[::2], numbers[1::2]
    grow = r if kind == "poly" else 0.0
    return min(xs) - grow, min(ys) - grow, max(xs) + grow, max(ys) + grow


@dataclass(frozen=True)
class Patch:
    """One part on its window (h, w): cover 0..1, distance in px, shade, gloss."""

    window: tuple[slice, slice]
    cover: Array
    distance: Array
    shade: Array
    shine: Array


def solid(part: Part, frame: Frame) -> Patch | None:
    """The part's cover and light; None where it lies outside the picture."""
    _, kind, numbers, r = part
    window = frame.window(*_bounds(kind, numbers, r))
    if window is None:
        return None
    u, v = frame.local(window)
    if kind in ("oval", "dome"):
        if kind == "dome":
            x0, y0, x1, y1 = numbers
            d, nx, ny, rise = _oval(u, v, (x0, y0, x1, 2 * y1 - y0))
            d = np.maximum(d, v - np.float32(y1))
        else:
            d, nx, ny, rise = _oval(u, v, numbers)
        rise = rise * np.float32(0.92)
    else:
        if kind == "ring":
            x, y, radius, thick = numbers
            d = np.abs(np.hypot(u - np.float32(x), v - np.float32(y)) - np.float32(radius)) - thick
            bevel = thick
        elif kind == "box":
            d, bevel = _box(u, v, numbers, r)
        else:
            d, bevel = _poly(u, v, numbers, r)
        gy, gx = np.gradient(d)
        norm = np.sqrt(gx * gx + gy * gy) + np.float32(1e-6)
        nx, ny = gx / norm, gy / norm
        rise = (1 - np.clip(-d / np.float32(bevel), 0, 1)) * np.float32(0.85)
    c, s = np.float32(cos(frame.stand.angle)), np.float32(sin(frame.stand.angle))
    if kind in ("oval", "dome"):  # normals in the object's own axes: turn them with it
        nx, ny = c * nx - s * ny, s * nx + c * ny
    nx, ny, nz = nx * rise, ny * rise, np.sqrt(1 - rise * rise)
    facing = np.maximum(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2], 0)
    shine = np.maximum(nx * _HALFWAY[0] + ny * _HALFWAY[1] + nz * _HALFWAY[2], 0) ** 22
    distance = (d * np.float32(frame.scale)).astype(np.float32)
    t = np.clip(0.5 - distance / EDGE, 0, 1)
    cover = t * t * (3 - 2 * t)
    shade = AMBIENT + DIFFUSE * facing
    return Patch(window, cover, distance, shade.astype(np.float32), shine.astype(np.float32))
