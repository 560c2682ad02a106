"""How far two texts are from each other: a conditioning from the prompt that it was encoded of."""

from __future__ import annotations

import torch
from torch import Tensor

_SAME_TEXT_CAST = 2e-2
"""Below it two texts are one, in another precision."""


def text_distance(text: Tensor, states: Tensor) -> Tensor:
    """Norm of the difference, relative to the second; infinite for unlike shapes."""
    if text.shape != states.shape:
        return torch.tensor(float("inf"))
    text, states = text.float(), states.to(text.device).float()
    return (text - states).norm() / states.norm().clamp(min=1e-12)


def is_cast_of(text: Tensor, states: Tensor) -> bool:
    """Whether a text is these states, but for a cast."""
    return bool(text_distance(text, states) < _SAME_TEXT_CAST)
