"""Objects as lists of flat parts in a unit box (x right, y down, both about -1..1).

A part is ``(role, kind, numbers)``. Roles index the palette of `render.py`: the body carries the
colour and pattern of the caption, ``second`` a darker shade of it, the rest is fixed.
"""

from dataclasses import dataclass

BODY, SECOND, DARK, LIGHT, ACCENT, LEAF, GLASS, BADGE, TOPPER = range(1, 10)

Part = tuple[int, str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    parts: tuple[Part, ...]
    top: tuple[float, float]  # where a hat sits
    badge: tuple[float, float]  # where a badge sits


def _disc(role: int, x: float, y: float, r: float) -> Part:
    return (role, "ellipse", (x - r, y - r, x + r, y + r))


def _petals() -> tuple[Part, ...]:
    around = ((0.45, 0), (0.22, 0.39), (-0.22, 0.39), (-0.45, 0), (-0.22, -0.39), (0.22, -0.39))
    return tuple(_disc(BODY, x, y - 0.3, 0.32) for x, y in around)


SHAPES: dict[str, Shape] = {
    "robot": Shape(
        parts=(
            (DARK, "box", (-0.4, 0.55, -0.12, 0.95)),
            (DARK, "box", (0.12, 0.55, 0.4, 0.95)),
            (SECOND, "box", (-0.9, -0.12, -0.55, 0.42)),
            (SECOND, "box", (0.55, -0.12, 0.9, 0.42)),
            (BODY, "box", (-0.55, -0.18, 0.55, 0.62)),
            (SECOND, "box", (-0.42, -0.8, 0.42, -0.22)),
            _disc(LIGHT, -0.18, -0.52, 0.12),
            _disc(LIGHT, 0.18, -0.52, 0.12),
            (DARK, "box", (-0.04, -0.98, 0.04, -0.8)),
        ),
        top=(0.0, -0.8),
        badge=(0.0, 0.2),
    ),
    "fish": Shape(
        parts=(
            (SECOND, "poly", (0.4, 0.0, 1.0, -0.55, 1.0, 0.55)),
            (SECOND, "poly", (-0.35, -0.35, 0.1, -0.8, 0.35, -0.3)),
            (BODY, "ellipse", (-0.95, -0.5, 0.6, 0.5)),
            _disc(LIGHT, -0.55, -0.12, 0.14),
            _disc(DARK, -0.57, -0.12, 0.07),
        ),
        top=(-0.35, -0.42),
        badge=(0.05, 0.05),
    ),
    "car": Shape(
        parts=(
            (BODY, "poly", (-0.6, -0.05, -0.35, -0.6, 0.4, -0.6, 0.7, -0.05)),
            (GLASS, "poly", (-0.42, -0.1, -0.25, -0.48, -0.02, -0.48, -0.02, -0.1)),
            (GLASS, "poly", (0.08, -0.1, 0.08, -0.48, 0.32, -0.48, 0.5, -0.1)),
            (BODY, "box", (-1.0, -0.1, 1.0, 0.45)),
            _disc(DARK, -0.55, 0.45, 0.27),
            _disc(DARK, 0.55, 0.45, 0.27),
            _disc(LIGHT, -0.55, 0.45, 0.1),
            _disc(LIGHT, 0.55, 0.45, 0.1),
        ),
        top=(0.0, -0.6),
        badge=(0.0, 0.15),
    ),
    "house": Shape(
        parts=(
            (DARK, "box", (0.4, -0.85, 0.62, -0.3)),
            (BODY, "box", (-0.75, -0.15, 0.75, 0.85)),
            (SECOND, "poly", (-1.0, -0.12, 0.0, -0.9, 1.0, -0.12)),
            (DARK, "box", (-0.16, 0.3, 0.16, 0.85)),
            (GLASS, "box", (-0.58, 0.05, -0.28, 0.35)),
            (GLASS, "box", (0.28, 0.05, 0.58, 0.35)),
        ),
        top=(0.0, -0.85),
        badge=(0.0, -0.35),
    ),
    "cat": Shape(
        parts=(
            (SECOND, "poly", (0.35, 0.8, 0.85, 0.55, 0.8, -0.05, 0.98, -0.05, 1.0, 0.7, 0.4, 0.95)),
            (BODY, "ellipse", (-0.58, -0.1, 0.58, 0.95)),
            (SECOND, "poly", (-0.5, -0.5, -0.45, -1.0, -0.08, -0.72)),
            (SECOND, "poly", (0.5, -0.5, 0.45, -1.0, 0.08, -0.72)),
            (BODY, "ellipse", (-0.54, -0.82, 0.54, 0.06)),
            _disc(LIGHT, -0.22, -0.42, 0.13),
            _disc(LIGHT, 0.22, -0.42, 0.13),
            _disc(DARK, -0.22, -0.42, 0.06),
            _disc(DARK, 0.22, -0.42, 0.06),
            _disc(ACCENT, 0.0, -0.2, 0.09),
        ),
        top=(0.0, -0.8),
        badge=(0.0, 0.4),
    ),
    "duck": Shape(
        parts=(
            (ACCENT, "box", (-0.25, 0.7, -0.12, 0.98)),
            (ACCENT, "box", (0.05, 0.7, 0.18, 0.98)),
            (ACCENT, "poly", (0.65, -0.62, 1.05, -0.42, 0.65, -0.28)),
            (BODY, "poly", (-1.0, -0.15, -0.5, 0.1, -0.4, 0.6, -0.75, 0.4)),
            (BODY, "ellipse", (-0.85, -0.05, 0.6, 0.78)),
            (BODY, "ellipse", (0.02, -0.85, 0.76, -0.1)),
            (BODY, "box", (0.1, -0.4, 0.5, 0.3)),
            (SECOND, "ellipse", (-0.6, 0.15, 0.15, 0.55)),
            _disc(DARK, 0.46, -0.52, 0.08),
        ),
        top=(0.38, -0.82),
        badge=(0.3, 0.3),
    ),
    "boat": Shape(
        parts=(
            (DARK, "box", (-0.05, -0.98, 0.05, 0.4)),
            (BODY, "poly", (-0.1, -0.92, -0.1, 0.28, -0.9, 0.28)),
            (BODY, "poly", (0.1, -0.75, 0.1, 0.28, 0.8, 0.28)),
            (SECOND, "poly", (-1.0, 0.35, 1.0, 0.35, 0.65, 0.85, -0.65, 0.85)),
        ),
        top=(0.0, -0.92),
        badge=(0.0, 0.58),
    ),
    "rocket": Shape(
        parts=(
            (ACCENT, "poly", (-0.26, 0.5, 0.26, 0.5, 0.0, 1.0)),
            (SECOND, "poly", (-0.38, -0.05, -0.85, 0.65, -0.38, 0.55)),
            (SECOND, "poly", (0.38, -0.05, 0.85, 0.65, 0.38, 0.55)),
            (BODY, "poly", (0.0, -1.0, 0.42, -0.4, 0.42, 0.58, -0.42, 0.58, -0.42, -0.4)),
            (DARK, "ellipse", (-0.25, -0.42, 0.25, 0.08)),
            (GLASS, "ellipse", (-0.17, -0.34, 0.17, 0.0)),
        ),
        top=(0.0, -0.92),
        badge=(0.0, 0.34),
    ),
    "mug": Shape(
        parts=(
            (SECOND, "ellipse", (0.2, -0.35, 0.98, 0.45)),
            (0, "ellipse", (0.4, -0.15, 0.78, 0.25)),
            (BODY, "box", (-0.75, -0.6, 0.5, 0.75)),
            (BODY, "ellipse", (-0.75, 0.58, 0.5, 0.92)),
            (LIGHT, "ellipse", (-0.75, -0.8, 0.5, -0.42)),
            (DARK, "ellipse", (-0.62, -0.73, 0.37, -0.49)),
        ),
        top=(-0.12, -0.72),
        badge=(-0.12, 0.15),
    ),
    "mushroom": Shape(
        parts=(
            (LIGHT, "box", (-0.26, -0.1, 0.26, 0.85)),
            (LIGHT, "ellipse", (-0.36, 0.6, 0.36, 0.98)),
            (SECOND, "ellipse", (-0.95, -0.2, 0.95, 0.28)),
            (BODY, "dome", (-0.95, -0.9, 0.95, 0.98)),
        ),
        top=(0.0, -0.88),
        badge=(0.0, -0.35),
    ),
    "flower": Shape(
        parts=(
            (LEAF, "box", (-0.07, 0.0, 0.07, 0.98)),
            (LEAF, "poly", (0.0, 0.85, 0.25, 0.45, 0.62, 0.45, 0.35, 0.8)),
            (LEAF, "poly", (0.0, 0.95, -0.25, 0.55, -0.62, 0.55, -0.35, 0.9)),
            *_petals(),
            _disc(ACCENT, 0.0, -0.3, 0.25),
        ),
        top=(0.0, -0.95),
        badge=(0.0, -0.3),
    ),
    "butterfly": Shape(
        parts=(
            (BODY, "ellipse", (-0.98, -0.8, -0.04, 0.12)),
            (BODY, "ellipse", (0.04, -0.8, 0.98, 0.12)),
            (SECOND, "ellipse", (-0.8, -0.02, -0.06, 0.78)),
            (SECOND, "ellipse", (0.06, -0.02, 0.8, 0.78)),
            (DARK, "ellipse", (-0.11, -0.62, 0.11, 0.7)),
            (DARK, "poly", (-0.04, -0.55, -0.3, -0.98, -0.2, -1.0, 0.04, -0.55)),
            (DARK, "poly", (0.04, -0.55, 0.3, -0.98, 0.2, -1.0, -0.04, -0.55)),
        ),
        top=(0.0, -0.6),
        badge=(0.5, -0.34),
    ),
    "turtle": Shape(
        parts=(
            (SECOND, "ellipse", (-0.62, 0.25, -0.24, 0.78)),
            (SECOND, "ellipse", (0.12, 0.25, 0.5, 0.78)),
            (SECOND, "ellipse", (0.5, -0.22, 1.02, 0.26)),
            (SECOND, "poly", (-0.7, 0.2, -1.0, 0.46, -0.6, 0.45)),
            (BODY, "dome", (-0.82, -0.68, 0.68, 1.48)),
            _disc(DARK, 0.82, -0.04, 0.08),
        ),
        top=(-0.07, -0.66),
        badge=(-0.07, -0.1),
    ),
    "balloon": Shape(
        parts=(
            (DARK, "box", (-0.03, 0.4, 0.03, 1.0)),
            (SECOND, "poly", (-0.16, 0.52, 0.0, 0.3, 0.16, 0.52)),
            (BODY, "ellipse", (-0.62, -1.0, 0.62, 0.4)),
            (LIGHT, "ellipse", (-0.4, -0.8, -0.18, -0.45)),
        ),
        top=(0.0, -0.98),
        badge=(0.08, -0.2),
    ),
}

# Small shapes of the concepts, in the same units around their anchor.
BADGES: dict[str, tuple[str, tuple[float, ...]]] = {
    "disc": ("ellipse", (-0.2, -0.2, 0.2, 0.2)),
    "square": ("box", (-0.18, -0.18, 0.18, 0.18)),
    "diamond": ("poly", (0.0, -0.27, 0.24, 0.0, 0.0, 0.27, -0.24, 0.0)),
    "triangle": ("poly", (0.0, -0.25, 0.25, 0.2, -0.25, 0.2)),
    "bar": ("box", (-0.32, -0.1, 0.32, 0.1)),
}
TOPPERS: dict[str, tuple[str, tuple[float, ...]]] = {
    "hat": (
        "poly",
        (
            -0.42,
            0.08,
            -0.42,
            -0.05,
            -0.24,
            -0.05,
            -0.24,
            -0.42,
            0.24,
            -0.42,
            0.24,
            -0.05,
            0.42,
            -0.05,
            0.42,
            0.08,
        ),
    ),
    "cone": ("poly", (-0.3, 0.08, 0.0, -0.55, 0.3, 0.08)),
    "crown": (
        "poly",
        (-0.36, 0.08, -0.36, -0.4, -0.18, -0.15, 0.0, -0.42, 0.18, -0.15, 0.36, -0.4, 0.36, 0.08),
    ),
    "ball": ("ellipse", (-0.24, -0.4, 0.24, 0.08)),
}
