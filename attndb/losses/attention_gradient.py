"""A loss by its gradient alone, for a training loop whose own loss cannot be added to.

Shapes: B batch, P pixels (queries), T text tokens (keys), E width, V the token's columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.column_statistics import column_statistics
from .attention_map import attention_map_loss


@dataclass(frozen=True)
class TiedRows:
    """Samples of a batch that were given one prompt, and where its two words stand."""

    rows: slice
    columns: tuple[int, ...]
    """The token's columns on the key axis, and the category's as the last: V + 1."""
    tokens: int
    """Keys of the prompt. Those after them only repeat it, to batch it with a longer one, and a
    softmax over the prompt alone is the sum over its repeats."""


def tied_rows_loss(
    q_BPE: Tensor,
    k_BTE: Tensor,
    heads: int,
    tied: Sequence[TiedRows],
    mean_weight: float,
    variance_weight: float,
) -> Tensor:
    """What one layer adds to `attention_map_loss` before the mean over layers: a sum over the
    samples of all rows, in fp32 (docs/formulas.md, The regulariser)."""
    total = torch.zeros((), device=q_BPE.device)
    for part in tied:
        q, k = q_BPE[part.rows], k_BTE[part.rows, : part.tokens]
        columns_BC = torch.tensor([part.columns] * q.shape[0], device=q.device)
        statistics = column_statistics(q, k, columns_BC, heads)
        total = total + attention_map_loss([statistics], mean_weight, variance_weight)
    return total


def with_gradient_of(
    loss: Callable[[Tensor, Tensor], Tensor], q_BPE: Tensor, k_BTE: Tensor
) -> Tensor:
    """`k_BTE` as it is. Whatever is made of it, its backward pass also adds the gradient of
    `loss(q, k)` to both.

    The loss is computed in the backward pass only, once, and is not weighted by the gradient that
    arrives: what scales the training's own loss has to be part of it. Under gradient checkpointing
    (the non-reentrant kind) the recomputed queries and keys are used, once.
    """
    return _GradientOf.apply(k_BTE, q_BPE, loss)


class _GradientOf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, k_BTE: Tensor, q_BPE: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(q_BPE, k_BTE)
        ctx.loss = loss
        return k_BTE.view_as(k_BTE)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (arriving,) = grads
        leaves = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        with torch.enable_grad():
            value = ctx.loss(*leaves)
        dq_BPE, dk_BTE = torch.autograd.grad(value, leaves)
        return arriving + dk_BTE, dq_BPE, None
