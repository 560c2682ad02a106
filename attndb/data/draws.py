"""Random draws that a seed and a step decide, the same on every machine.

Each step has its own generator, derived from (seed, stage, step), so a resumed run needs no
generator state and sees the batches that an uninterrupted one sees.

Shapes: B batch, C latent channels, Y X latent pixels.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def step_generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by a key, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def epoch_index(index: int, count: int, *key: object) -> int:
    """Which of `count` things draw `index` takes: all of them once per round, each round in an
    order of its own, decided by the key."""
    round_, place = divmod(index, count)
    return int(torch.randperm(count, generator=step_generator(*key, round_))[place])


def draw_noise(
    shape: torch.Size, timesteps: int, offset_noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """eps of this shape (B, C, Y, X), with a share constant over each channel, and t (B,)."""
    noise = torch.randn(shape, generator=generator)
    t = torch.randint(0, timesteps, shape[:1], generator=generator)
    if offset_noise:
        noise = noise + offset_noise * torch.randn((*shape[:2], 1, 1), generator=generator)
    return noise, t
