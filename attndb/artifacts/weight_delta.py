"""What training changed in one weight: a whole tensor, or a product of two thin ones (LoRA).

Shapes: O output features, I input features (times the kernel, for a convolution), R rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """A change of rank R: `up @ down`, in the shape of the weight (Hu et al. 2021, section 4.1)."""

    up: Tensor
    """(O, R)."""
    down: Tensor
    """(R, I)."""
    shape: tuple[int, ...]
    """Of the weight."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its factors."""
        return self.up.dtype

    def dense(self) -> Tensor:
        """The change as a whole tensor, fp32."""
        return (self.up.float() @ self.down.float()).reshape(self.shape)


WeightDelta: TypeAlias = Tensor | LowRank


def dense(change: WeightDelta) -> Tensor:
    """A change as a whole tensor, fp32."""
    return change.dense() if isinstance(change, LowRank) else change.float()


def add_deltas(before: WeightDelta | None, change: WeightDelta) -> WeightDelta:
    """Two changes of one weight as one, in the precision of the second. Low ranks add up."""
    if before is None:
        return change
    dtype = change.dtype
    if isinstance(before, LowRank) and isinstance(change, LowRank):
        up = torch.cat([before.up.to(dtype), change.up], dim=1)
        return LowRank(up, torch.cat([before.down.to(dtype), change.down]), change.shape)
    return (dense(before) + dense(change)).to(dtype)


def cast_delta(change: WeightDelta, dtype: torch.dtype) -> WeightDelta:
    """A change in another precision."""
    if isinstance(change, LowRank):
        return LowRank(change.up.to(dtype), change.down.to(dtype), change.shape)
    return change.to(dtype)


def cast_deltas(changes: Mapping[str, WeightDelta], dtype: torch.dtype) -> dict[str, WeightDelta]:
    """Changes by name in another precision; those that have it already are not copied."""
    return {name: cast_delta(change, dtype) for name, change in changes.items()}


def in_main_memory(change: WeightDelta) -> WeightDelta:
    """A change whose tensors are on the CPU: itself where they are."""
    if isinstance(change, LowRank):
        if change.up.is_cpu and change.down.is_cpu:
            return change
        return LowRank(change.up.cpu(), change.down.cpu(), change.shape)
    return change.cpu()


def delta_tensors(changes: Mapping[str, WeightDelta]) -> dict[str, Tensor]:
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


def delta_from_tensors(tensors: Mapping[str, Tensor]) -> dict[str, WeightDelta]:
    """The inverse of `delta_tensors`."""
    changes: dict[str, WeightDelta] = {}
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
