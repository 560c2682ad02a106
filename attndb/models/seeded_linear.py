"""seeded_linear: a linear layer with PyTorch's own first weights, drawn from a generator."""

from __future__ import annotations

import torch
from torch import nn


def seeded_linear(
    inputs: int, outputs: int, generator: torch.Generator | None, *, bias: bool = True
) -> nn.Linear:
    """Uniform in +-1 / sqrt(inputs), weight and bias."""
    layer, bound = nn.Linear(inputs, outputs, bias=bias), inputs**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
