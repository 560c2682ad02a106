"""Hats, badges and held things, in the units of `shapes.py` around their anchor."""

from math import cos, pi, sin

from .shapes import BADGE, DARK, HAT, HELD, Part, box, disc, dome, oval, poly


def _star(role: int, x: float, y: float, r: float) -> Part:
    points = [
        (x + (r, r * 0.45)[i % 2] * sin(pi * i / 5), y - (r, r * 0.45)[i % 2] * cos(pi * i / 5))
        for i in range(10)
    ]
    return poly(role, *(value for point in points for value in point), r=0.03)


HATS: dict[str, tuple[Part, ...]] = {
    "hat": (box(HAT, -0.25, -0.52, 0.25, 0.06, 0.05), box(HAT, -0.46, -0.06, 0.46, 0.1, 0.06)),
    "crown": (
        poly(
            *(HAT, -0.36, 0.08, -0.38, -0.4, -0.18, -0.16, 0.0, -0.46, 0.18, -0.16, 0.38, -0.4),
            *(0.36, 0.08),
            r=0.05,
        ),
    ),
    "cap": (dome(HAT, -0.4, -0.36, 0.36, 0.08), box(HAT, -0.1, -0.04, 0.66, 0.1, 0.06)),
    "bow": (
        poly(HAT, 0.0, -0.12, -0.42, -0.36, -0.42, 0.12, r=0.06),
        poly(HAT, 0.0, -0.12, 0.42, -0.36, 0.42, 0.12, r=0.06),
        disc(HAT, 0.0, -0.12, 0.13),
    ),
    "horn": (poly(HAT, -0.22, 0.08, 0.1, -0.66, 0.22, 0.08, r=0.05),),
    "ball": (disc(HAT, 0.0, -0.2, 0.27),),
    "leaf": (
        oval(HAT, -0.5, -0.4, 0.02, -0.08),
        oval(HAT, -0.02, -0.5, 0.5, -0.14),
        box(HAT, -0.05, -0.26, 0.05, 0.08, 0.03),
    ),
}

BADGES: dict[str, tuple[Part, ...]] = {
    "star": (_star(BADGE, 0.0, 0.02, 0.32),),
    "heart": (
        poly(BADGE, -0.25, -0.03, 0.25, -0.03, 0.0, 0.25, r=0.03),
        disc(BADGE, -0.13, -0.09, 0.15),
        disc(BADGE, 0.13, -0.09, 0.15),
    ),
    "diamond": (poly(BADGE, 0.0, -0.29, 0.24, 0.0, 0.0, 0.29, -0.24, 0.0, r=0.03),),
    "bar": (box(BADGE, -0.34, -0.11, 0.34, 0.11, 0.04),),
    "ring": ((BADGE, "ring", (0.0, 0.0, 0.2, 0.08), 0.0),),
}

HELD_THINGS: dict[str, tuple[Part, ...]] = {
    "balloon": (
        box(DARK, -0.02, -0.9, 0.02, 0.06, 0.02),
        oval(HELD, -0.3, -1.62, 0.3, -0.88),
    ),
    "flag": (
        box(DARK, -0.035, -1.3, 0.035, 0.2, 0.02),
        poly(HELD, 0.06, -1.26, 0.66, -1.2, 0.54, -1.0, 0.66, -0.78, 0.06, -0.74, r=0.03),
    ),
    "lantern": (
        box(DARK, -0.16, -0.08, 0.16, 0.02, 0.03),
        box(HELD, -0.2, 0.02, 0.2, 0.46, 0.08),
        box(DARK, -0.18, 0.44, 0.18, 0.54, 0.03),
    ),
}


def moved(parts: tuple[Part, ...], at: tuple[float, float]) -> tuple[Part, ...]:
    """The parts around another anchor."""
    out = []
    for role, kind, numbers, r in parts:
        if kind == "ring":  # centre, radius, thickness
            numbers = (numbers[0] + at[0], numbers[1] + at[1], *numbers[2:])
        else:
            numbers = tuple(value + at[i % 2] for i, value in enumerate(numbers))
        out.append((role, kind, numbers, r))
    return tuple(out)
