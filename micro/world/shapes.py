"""Objects as lists of rounded parts in a unit box (x right, y down, both about -1..1).

A part is ``(role, kind, numbers, round)``. Roles index the palette of `paint.py`: the body carries
colour, pattern and finish, ``SECOND`` the second colour, the rest is fixed.
"""

from dataclasses import dataclass

BODY, SECOND, DARK, LIGHT, ACCENT, LEAF, GLASS, BADGE, HAT, HELD = range(1, 11)

Part = tuple[int, str, tuple[float, ...], float]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Parts in the order of drawing, and where a hat, a badge and a held thing belong."""

    parts: tuple[Part, ...]
    top: tuple[float, float]
    badge: tuple[float, float]
    hand: tuple[float, float]


def box(role: int, x0: float, y0: float, x1: float, y1: float, r: float = 0.06) -> Part:
    return (role, "box", (x0, y0, x1, y1), r)


def oval(role: int, x0: float, y0: float, x1: float, y1: float) -> Part:
    return (role, "oval", (x0, y0, x1, y1), 0.0)


def disc(role: int, x: float, y: float, r: float) -> Part:
    return oval(role, x - r, y - r, x + r, y + r)


def poly(role: int, *numbers: float, r: float = 0.05) -> Part:
    return (role, "poly", numbers, r)


def dome(role: int, x0: float, y0: float, x1: float, y1: float) -> Part:
    """The upper half of the oval in x0..x1 whose foot lies at y1."""
    return (role, "dome", (x0, y0, x1, y1), 0.0)


def _eye(x: float, y: float, r: float = 0.13, look: float = 0.02) -> tuple[Part, ...]:
    return (
        disc(LIGHT, x, y, r),
        disc(DARK, x + look, y + 0.01, r * 0.58),
    )


def _petals() -> tuple[Part, ...]:
    around = ((0.45, 0), (0.22, 0.39), (-0.22, 0.39), (-0.45, 0), (-0.22, -0.39), (0.22, -0.39))
    return tuple(disc(BODY, x, y - 0.36, 0.31) for x, y in around)


SHAPES: dict[str, Shape] = {
    "robot": Shape(
        parts=(
            box(DARK, -0.42, 0.5, -0.12, 0.95),
            box(DARK, 0.12, 0.5, 0.42, 0.95),
            box(SECOND, -0.86, -0.1, -0.56, 0.46, 0.12),
            box(SECOND, 0.56, -0.1, 0.86, 0.46, 0.12),
            box(BODY, -0.56, -0.18, 0.56, 0.66, 0.12),
            box(SECOND, -0.44, -0.82, 0.44, -0.2, 0.14),
            *_eye(-0.18, -0.5),
            *_eye(0.18, -0.5),
        ),
        top=(0.0, -0.8),
        badge=(0.0, 0.24),
        hand=(0.76, 0.4),
    ),
    "fish": Shape(
        parts=(
            poly(SECOND, 0.42, 0.0, 0.98, -0.5, 0.82, 0.0, 0.98, 0.5, r=0.07),
            poly(SECOND, -0.3, -0.38, 0.1, -0.78, 0.3, -0.3, r=0.07),
            oval(BODY, -0.95, -0.56, 0.62, 0.56),
            poly(SECOND, -0.1, 0.16, 0.3, 0.02, 0.3, 0.34),
            *_eye(-0.58, -0.14, 0.15, -0.03),
        ),
        top=(-0.4, -0.46),
        badge=(-0.1, 0.1),
        hand=(0.3, 0.2),
    ),
    "car": Shape(
        parts=(
            poly(BODY, -0.62, 0.0, -0.38, -0.56, 0.4, -0.56, 0.7, 0.0, r=0.08),
            poly(GLASS, -0.42, -0.08, -0.26, -0.46, -0.05, -0.46, -0.05, -0.08, r=0.03),
            poly(GLASS, 0.08, -0.08, 0.08, -0.46, 0.34, -0.46, 0.5, -0.08, r=0.03),
            box(BODY, -1.0, -0.08, 1.0, 0.56, 0.18),
            box(SECOND, -1.02, 0.38, 1.02, 0.56, 0.08),
            disc(DARK, -0.55, 0.62, 0.3),
            disc(DARK, 0.55, 0.62, 0.3),
            disc(LIGHT, -0.55, 0.62, 0.13),
            disc(LIGHT, 0.55, 0.62, 0.13),
        ),
        top=(0.0, -0.6),
        badge=(0.0, 0.16),
        hand=(0.86, 0.1),
    ),
    "house": Shape(
        parts=(
            box(DARK, 0.38, -0.86, 0.62, -0.3),
            box(BODY, -0.76, -0.2, 0.76, 0.92),
            poly(SECOND, -1.0, -0.1, 0.0, -0.86, 1.0, -0.1, r=0.07),
            box(DARK, -0.17, 0.38, 0.17, 0.92),
            box(GLASS, -0.6, 0.1, -0.28, 0.42, 0.04),
            box(GLASS, 0.28, 0.1, 0.6, 0.42, 0.04),
        ),
        top=(0.0, -0.86),
        badge=(0.0, -0.36),
        hand=(0.8, 0.4),
    ),
    "cat": Shape(
        parts=(
            poly(SECOND, 0.4, 0.72, 0.78, 0.56, 0.78, 0.0, 0.92, 0.0, 0.94, 0.7, 0.5, 0.9, r=0.06),
            oval(BODY, -0.6, -0.14, 0.6, 0.97),
            poly(SECOND, -0.48, -0.46, -0.44, -0.94, -0.08, -0.7),
            poly(SECOND, 0.48, -0.46, 0.44, -0.94, 0.08, -0.7),
            oval(BODY, -0.58, -0.84, 0.58, 0.1),
            *_eye(-0.23, -0.42, 0.15),
            *_eye(0.23, -0.42, 0.15),
            oval(ACCENT, -0.1, -0.24, 0.1, -0.1),
            oval(SECOND, -0.44, 0.74, -0.06, 0.98),
            oval(SECOND, 0.06, 0.74, 0.44, 0.98),
        ),
        top=(0.0, -0.78),
        badge=(0.0, 0.4),
        hand=(0.56, 0.4),
    ),
    "duck": Shape(
        parts=(
            box(ACCENT, -0.28, 0.66, -0.12, 0.97),
            box(ACCENT, 0.04, 0.66, 0.2, 0.97),
            poly(ACCENT, 0.66, -0.6, 1.02, -0.42, 0.66, -0.26, r=0.06),
            poly(BODY, -0.98, -0.16, -0.5, 0.1, -0.4, 0.6, -0.76, 0.42, r=0.06),
            oval(BODY, -0.88, -0.08, 0.64, 0.8),
            oval(BODY, 0.04, -0.88, 0.82, -0.08),
            box(BODY, 0.12, -0.4, 0.56, 0.3, 0.14),
            oval(SECOND, -0.62, 0.1, 0.12, 0.56),
            *_eye(0.52, -0.52, 0.13, 0.03),
        ),
        top=(0.42, -0.82),
        badge=(0.34, 0.3),
        hand=(0.56, 0.2),
    ),
    "boat": Shape(
        parts=(
            box(DARK, -0.05, -0.94, 0.05, 0.5, 0.03),
            poly(BODY, -0.12, -0.86, -0.12, 0.28, -0.86, 0.28, r=0.06),
            poly(BODY, 0.12, -0.7, 0.12, 0.28, 0.78, 0.28, r=0.06),
            poly(SECOND, -0.98, 0.4, 0.98, 0.4, 0.66, 0.92, -0.66, 0.92, r=0.07),
        ),
        top=(0.0, -0.9),
        badge=(0.0, 0.64),
        hand=(0.84, 0.4),
    ),
    "rocket": Shape(
        parts=(
            poly(ACCENT, -0.24, 0.6, 0.24, 0.6, 0.0, 0.98),
            poly(SECOND, -0.36, 0.0, -0.82, 0.72, -0.36, 0.62, r=0.06),
            poly(SECOND, 0.36, 0.0, 0.82, 0.72, 0.36, 0.62, r=0.06),
            oval(BODY, -0.46, -1.0, 0.46, 1.0),
            box(BODY, -0.42, 0.1, 0.42, 0.72, 0.1),
            box(SECOND, -0.42, 0.58, 0.42, 0.74, 0.06),
            disc(DARK, 0.0, -0.26, 0.26),
            disc(GLASS, 0.0, -0.26, 0.19),
        ),
        top=(0.0, -0.9),
        badge=(0.0, 0.3),
        hand=(0.5, 0.3),
    ),
    "mug": Shape(
        parts=(
            (SECOND, "ring", (0.56, 0.1, 0.34, 0.11), 0.0),
            box(BODY, -0.78, -0.6, 0.54, 0.92, 0.16),
            oval(LIGHT, -0.78, -0.82, 0.54, -0.4),
            oval(DARK, -0.66, -0.75, 0.42, -0.47),
            box(SECOND, -0.79, 0.66, 0.55, 0.84, 0.06),
        ),
        top=(-0.12, -0.68),
        badge=(-0.12, 0.16),
        hand=(0.86, 0.1),
    ),
    "mushroom": Shape(
        parts=(
            box(LIGHT, -0.28, -0.1, 0.28, 0.94, 0.14),
            oval(LIGHT, -0.4, 0.6, 0.4, 0.98),
            oval(SECOND, -0.94, -0.2, 0.94, 0.3),
            dome(BODY, -0.96, -0.9, 0.96, 0.06),
            *_eye(-0.14, 0.44, 0.1),
            *_eye(0.14, 0.44, 0.1),
        ),
        top=(0.0, -0.88),
        badge=(0.0, -0.36),
        hand=(0.3, 0.5),
    ),
    "flower": Shape(
        parts=(
            box(LEAF, -0.07, 0.0, 0.07, 0.98, 0.04),
            poly(LEAF, 0.04, 0.84, 0.26, 0.5, 0.6, 0.46, 0.38, 0.78, r=0.06),
            poly(LEAF, -0.04, 0.92, -0.26, 0.58, -0.6, 0.54, -0.38, 0.86, r=0.06),
            *_petals(),
            disc(SECOND, 0.0, -0.36, 0.27),
            *_eye(-0.1, -0.4, 0.08),
            *_eye(0.1, -0.4, 0.08),
        ),
        top=(0.0, -0.98),
        badge=(0.0, -0.2),
        hand=(0.56, 0.5),
    ),
    "butterfly": Shape(
        parts=(
            oval(SECOND, -0.82, -0.06, -0.04, 0.78),
            oval(SECOND, 0.04, -0.06, 0.82, 0.78),
            oval(BODY, -0.98, -0.82, -0.02, 0.16),
            oval(BODY, 0.02, -0.82, 0.98, 0.16),
            oval(DARK, -0.13, -0.6, 0.13, 0.72),
            poly(DARK, -0.05, -0.5, -0.26, -0.92, -0.2, -0.94, 0.03, -0.5, r=0.03),
            poly(DARK, 0.05, -0.5, 0.26, -0.92, 0.2, -0.94, -0.03, -0.5, r=0.03),
            *_eye(-0.08, -0.46, 0.09),
            *_eye(0.08, -0.46, 0.09),
        ),
        top=(0.0, -0.62),
        badge=(0.5, -0.32),
        hand=(0.7, 0.4),
    ),
    "turtle": Shape(
        parts=(
            oval(SECOND, -0.66, 0.34, -0.24, 0.9),
            oval(SECOND, 0.12, 0.34, 0.54, 0.9),
            oval(SECOND, 0.46, -0.32, 1.02, 0.3),
            poly(SECOND, -0.7, 0.3, -0.98, 0.56, -0.6, 0.56, r=0.05),
            dome(BODY, -0.86, -0.66, 0.7, 0.54),
            box(SECOND, -0.9, 0.42, 0.74, 0.58, 0.08),
            *_eye(0.78, -0.1, 0.12, 0.03),
        ),
        top=(-0.08, -0.62),
        badge=(-0.08, 0.0),
        hand=(0.6, 0.4),
    ),
    "owl": Shape(
        parts=(
            oval(ACCENT, -0.4, 0.78, -0.04, 0.98),
            oval(ACCENT, 0.04, 0.78, 0.4, 0.98),
            oval(SECOND, -0.84, -0.3, -0.3, 0.7),
            oval(SECOND, 0.3, -0.3, 0.84, 0.7),
            poly(BODY, -0.6, -0.4, -0.58, -0.94, -0.16, -0.74, r=0.06),
            poly(BODY, 0.6, -0.4, 0.58, -0.94, 0.16, -0.74, r=0.06),
            oval(BODY, -0.66, -0.84, 0.66, 0.92),
            *_eye(-0.25, -0.38, 0.22),
            *_eye(0.25, -0.38, 0.22),
            poly(ACCENT, -0.08, -0.22, 0.08, -0.22, 0.0, -0.02, r=0.04),
        ),
        top=(0.0, -0.8),
        badge=(0.0, 0.34),
        hand=(0.74, 0.3),
    ),
}
