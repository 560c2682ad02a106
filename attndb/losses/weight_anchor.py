"""The weight anchor: how far weights are from the base model's.

The formula: docs/formulas.md, Beyond the paper.

Shapes: O output features, R rank, I input features, of one sample of a convolution together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def squared_distance(weight: Tensor, base: Tensor) -> Tensor:
    """||theta - theta_base||^2, a scalar in fp32. For the backward pass it keeps the two alone, and
    no difference: 2 (theta - theta_base) is computed there, one weight after the other."""
    return _SquaredDistance.apply(weight, base)  # type: ignore[return-value]


class _SquaredDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, base: Tensor) -> Tensor:
        ctx.save_for_backward(weight, base)
        return (weight.float() - base.float()).square().sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        weight, base = ctx.saved_tensors
        return (2.0 * grads[0] * (weight.float() - base.float())).to(weight.dtype), None


def squared_low_rank(up_OR: Tensor, down_RI: Tensor, gap: Tensor | None = None) -> Tensor:
    """||up down||^2 of a low-rank change, a scalar in fp32, without making the product:
    <up^T up, down down^T>. With a `gap`, from the base to the weight that is changed, of the
    weight's shape: ||gap + up down||^2 = ||gap||^2 + 2 <up, gap down^T> + ||up down||^2."""
    up_OR, down_RI = up_OR.float(), down_RI.float()
    square = ((up_OR.T @ up_OR) * (down_RI @ down_RI.T)).sum()
    if gap is None:
        return square
    gap_OI = gap.float().flatten(1)
    return gap_OI.square().sum() + 2.0 * (up_OR * (gap_OI @ down_RI.T)).sum() + square
