"""How a picture is drawn: the limits that nodes and files of subjects share."""

from __future__ import annotations

import math

from .choices import require
from .lines import asked_lines

MOST_PREVIEWED = 24
"""Prompts that are drawn beside each other during a training."""

MAX_SEED = 2**64 - 1
"""Of a sampler's noise."""


def check_drawing(*, steps: int, cfg: float, width: int, height: int, seed: int) -> None:
    """ValueError, which names the setting, unless a sampler can draw so."""
    require(steps >= 1, "steps", steps, "use 1 or more sampler steps")
    require(math.isfinite(cfg), "cfg", cfg, "use a number, 7.5 for example")
    for name, side in (("width", width), ("height", height)):
        require(side >= 8, name, side, "use 8 pixels or more, 512 for example")
    require(0 <= seed <= MAX_SEED, "seed", seed, f"use 0 to {MAX_SEED}")


def previewed(prompt: str) -> tuple[str, ...]:
    """The prompts of a training's pictures, one a line; without any line it is the empty one.
    ValueError for too many."""
    lines = asked_lines(prompt) or [""]
    if len(lines) > MOST_PREVIEWED:
        raise ValueError(f"prompt has {len(lines)} lines, and {MOST_PREVIEWED} are drawn at most")
    return tuple(lines)


def check_every(every: int) -> None:
    """ValueError unless pictures can be drawn so many training steps apart."""
    require(every >= 1, "every", every, "use 1 training step or more, 50 for example")
