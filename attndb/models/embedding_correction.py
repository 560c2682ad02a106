"""Embedding correction at sampling: a learned embedding turned towards its category's (TEA, ICLR
2026; docs/formulas.md, Beyond the paper). No training.

Shapes: V the placeholder's vectors, D text width.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NORM_PER_TURN = 2.5
"""The published defaults, r = 0.2 and a = 0.5, lie on one line through doing nothing."""


def corrected(vectors: Tensor, category: Tensor, strength: float) -> Tensor:
    """Vectors (V, D) after a correction of this strength: 0 leaves them as they are, 0.2 is the
    published default (r = 0.2, a = 0.5), 1 gives the category's embedding (D,)."""
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"correction = {strength}: use 0 (off) to 1; 0.2 is the published default")
    if strength == 0.0:
        return vectors
    return towards(vectors, category, strength, min(1.0, _NORM_PER_TURN * strength))


def towards(vectors: Tensor, category: Tensor, turn: float, norm: float) -> Tensor:
    """v' = slerp(n v/||v||, n c/||c||, r) with n = (1 - a)||v|| + a||c||; r: `turn`, a: `norm`."""
    v_VD, c_D = vectors.double(), category.double()
    v_norm_V1 = v_VD.norm(dim=-1, keepdim=True)
    direction_VD, goal_D = v_VD / v_norm_V1, c_D / c_D.norm()
    n_V1 = (1.0 - norm) * v_norm_V1 + norm * c_D.norm()
    cosine_V1 = (direction_VD @ goal_D).clamp(-1.0, 1.0)[:, None]
    angle_V1 = torch.arccos(cosine_V1)
    sine_V1 = torch.sin(angle_V1)
    parallel = sine_V1 < 1e-6  # the arc has no direction: along a line, or no way at all
    sine_V1 = torch.where(parallel, torch.ones_like(sine_V1), sine_V1)
    here_V1 = torch.where(parallel, 1.0 - turn, torch.sin((1.0 - turn) * angle_V1) / sine_V1)
    there_V1 = torch.where(parallel, turn, torch.sin(turn * angle_V1) / sine_V1)
    return (n_V1 * (here_V1 * direction_VD + there_V1 * goal_D)).to(vectors.dtype)
