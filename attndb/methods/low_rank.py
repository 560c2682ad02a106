"""LowRankParameter: a trainable low-rank change of a weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..artifacts.weight_delta import LowRank


class LowRankParameter(nn.Module):
    """A trainable low-rank change of a weight, for torch.nn.utils.parametrize; starts at zero."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        outputs, inputs = weight.shape[0], weight[0].numel()
        rank = min(rank, outputs, inputs)
        if weight.is_meta:  # a trace of shapes draws nothing
            start = torch.empty(rank, inputs, device=weight.device)
        else:
            start = torch.rand(rank, inputs, generator=generator) * 2.0 - 1.0
        self.down = nn.Parameter((start * (3.0 / inputs) ** 0.5).to(weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).reshape(self.shape)

    def delta(self) -> LowRank:
        """What was learned so far, fp32, on the CPU."""
        up, down = (p.detach().float().cpu().clone() for p in (self.up, self.down))
        return LowRank(up, down, self.shape)
