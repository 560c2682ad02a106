"""Smooth noise that is the same everywhere: one tile, made once from a fixed seed."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

TILE = 256


@cache
def grain(cell: int, seed: int = 0) -> NDArray[np.floating]:
    """(TILE, TILE) noise in about -1..1 whose lumps are `cell` px wide; it repeats at the edges."""
    rng = np.random.default_rng((seed, cell))
    count = TILE // cell
    coarse = rng.uniform(-1, 1, size=(count, count)).astype(np.float32)
    at = np.arange(TILE, dtype=np.float32) / cell
    low = np.floor(at).astype(int)
    f = at - low
    f = f * f * (3 - 2 * f)
    a, b = low % count, (low + 1) % count
    rows = coarse[a] * (1 - f)[:, None] + coarse[b] * f[:, None]
    return rows[:, a] * (1 - f) + rows[:, b] * f
