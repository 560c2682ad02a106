"""What training changed in one weight: a whole tensor, or a product of two thin ones (LoRA).

Shapes: O output features, I input features (times the kernel, for a convolution), R rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LowRank:
    """A change of rank R: `up @ down`, in the shape of the weight (Hu et al. 2021, section 4.1)."""

    up: Tensor
    """(O, R)."""
    down: Tensor
    """(R, I)."""
    shape: tuple[int, ...]
    """Of the weight."""

    def dense(self) -> Tensor:
        """The change as a whole tensor, fp32."""
        return (self.up.float() @ self.down.float()).reshape(self.shape)


Change: TypeAlias = Tensor | LowRank


def dense(change: Change) -> Tensor:
    """A change as a whole tensor, fp32."""
    return change.dense() if isinstance(change, LowRank) else change.float()


def added(before: Change | None, change: Change) -> Change:
    """Two changes of one weight as one, in the precision of the second. Low ranks add up."""
    if before is None:
        return change
    if isinstance(before, LowRank) and isinstance(change, LowRank):
        dtype = change.up.dtype
        up = torch.cat([before.up.to(dtype), change.up], dim=1)
        return LowRank(up, torch.cat([before.down.to(dtype), change.down]), change.shape)
    dtype = change.up.dtype if isinstance(change, LowRank) else change.dtype
    return (dense(before) + dense(change)).to(dtype)


def cast(change: Change, dtype: torch.dtype) -> Change:
    """A change in another precision."""
    if isinstance(change, LowRank):
        return LowRank(change.up.to(dtype), change.down.to(dtype), change.shape)
    return change.to(dtype)


def flat(changes: Mapping[str, Change]) -> dict[str, Tensor]:
    """Changes as plain tensors, by names that tell them apart: for digests and result files."""
    tensors: dict[str, Tensor] = {}
    for name, change in changes.items():
        if isinstance(change, LowRank):
            tensors[f"{name}:up"] = change.up
            # the shape travels in the second factor: (R, *shape[1:])
            tensors[f"{name}:down"] = change.down.reshape(-1, *change.shape[1:])
        else:
            tensors[name] = change
    return tensors


def unflat(tensors: Mapping[str, Tensor]) -> dict[str, Change]:
    """The inverse of `flat`."""
    changes: dict[str, Change] = {}
    for name, tensor in tensors.items():
        weight, _, part = name.partition(":")
        if not part:
            changes[weight] = tensor
        elif part == "up":
            changes[weight] = low_rank(tensor, tensors[f"{weight}:down"])
    return changes


def low_rank(up: Tensor, down: Tensor) -> LowRank:
    """From factors as files hold them: up (O, R, ...) and down (R, *shape[1:])."""
    return LowRank(up.flatten(1), down.flatten(1), (up.shape[0], *down.shape[1:]))


class LowRankParameter(nn.Module):
    """A trainable low-rank change of a weight, for torch.nn.utils.parametrize; starts at zero."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        outputs, inputs = weight.shape[0], weight[0].numel()
        rank = min(rank, outputs, inputs)
        if weight.is_meta:  # a rehearsal draws nothing
            start = torch.empty(rank, inputs, device=weight.device)
        else:
            start = torch.rand(rank, inputs, generator=generator) * 2.0 - 1.0
        self.down = nn.Parameter((start * (3.0 / inputs) ** 0.5).to(weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).reshape(self.shape)

    def change(self) -> LowRank:
        """What was learned so far, fp32, on the CPU."""
        up, down = (p.detach().float().cpu().clone() for p in (self.up, self.down))
        return LowRank(up, down, self.shape)
