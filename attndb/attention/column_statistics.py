"""Statistics of a few columns of softmax(Q K^T), on the side of any attention.

The attention matrix exists only inside the computation, in chunks, and is recomputed in the
backward pass instead of being kept.

Shapes: B batch, H heads, P pixels (queries), T text tokens (keys), D head dim, E = H * D,
C chosen columns, N = H * P values of one column.

With weights of the pixels (an option: the paper's are over all pixels alike)

    mean = sum_n w_n a_n / W        variance = sum_n w_n (a_n - mean)^2 / (W - sum_n w_n^2 / W)

with W = sum_n w_n: the unbiased variance, in whatever unit the weights are; equal ones give the
plain statistics, and pixels of weight 0 are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..models.precision import full_precision
from .map_statistics import MapStatistics

_CHUNK_VALUES = 1 << 25
"""Attention values held at once: 128 MiB in fp32."""
_KEPT_VALUES = 1 << 21
"""Attention values of a layer, up to 8 MiB in fp32, that are kept for the backward pass."""


def _attention(q_BPE: Tensor, k_BTE: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    q_BHPD, k_BHTD = _heads(q_BPE, heads), _heads(k_BTE, heads)
    logits_BHPT = (q_BHPD * q_BHPD.shape[-1] ** -0.5) @ k_BHTD.transpose(-1, -2)
    return logits_BHPT.softmax(dim=-1), q_BHPD, k_BHTD


def _heads(x_BNE: Tensor, heads: int) -> Tensor:
    return rearrange(x_BNE.float(), "b n (h d) -> b h n d", h=heads)


def _gather(attention_BHPT: Tensor, columns_BC: Tensor) -> Tensor:
    _, heads, pixels, _ = attention_BHPT.shape
    return attention_BHPT.gather(3, columns_BC[:, None, None, :].expand(-1, heads, pixels, -1))


class _ColumnStatistics(torch.autograd.Function):
    """Mean and unbiased variance of columns. Of a large layer only Q and K are kept, and the
    attention is computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BPE: Tensor,
        k_BTE: Tensor,
        columns_BC: Tensor,
        heads: int,
        weights_BP: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        with full_precision(q_BPE.device):
            means, variances, kept = [], [], []
            keeps = q_BPE.shape[:2].numel() * heads * k_BTE.shape[1] <= _KEPT_VALUES
            for part in _chunks(q_BPE, k_BTE, heads):
                attention_BHPT, _, _ = _attention(q_BPE[part], k_BTE[part], heads)
                column_BCN = _flat(_gather(attention_BHPT, columns_BC[part]))
                if keeps:
                    kept.append(attention_BHPT)
                if weights_BP is not None:
                    mean, variance = _weighted(column_BCN, weights_BP[part], heads)
                else:
                    mean, variance = column_BCN.mean(dim=2), column_BCN.var(dim=2, unbiased=True)
                means.append(mean)
                variances.append(variance)
        mean_BC, variance_BC = torch.cat(means), torch.cat(variances)
        ctx.save_for_backward(q_BPE, k_BTE, columns_BC, mean_BC, *kept)
        ctx.heads, ctx.weights_BP = heads, weights_BP
        return mean_BC, variance_BC

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_mean_BC, grad_variance_BC = grads
        q_BPE, k_BTE, columns_BC, mean_BC, *kept = ctx.saved_tensors
        heads = ctx.heads
        count = heads * q_BPE.shape[1]
        dq, dk = [], []
        with full_precision(q_BPE.device):
            for index, part in enumerate(_chunks(q_BPE, k_BTE, heads)):
                if kept:
                    attention_BHPT = kept[index]
                    q_BHPD, k_BHTD = _heads(q_BPE[part], heads), _heads(k_BTE[part], heads)
                else:
                    attention_BHPT, q_BHPD, k_BHTD = _attention(q_BPE[part], k_BTE[part], heads)
                columns = columns_BC[part]
                a_BHPC = _gather(attention_BHPT, columns)
                grad_mean, grad_variance = (
                    g[part, None, None, :] for g in (grad_mean_BC, grad_variance_BC)
                )
                gap_BHPC = a_BHPC - mean_BC[part, None, None, :]
                if ctx.weights_BP is None:
                    g_BHPC = grad_mean / count
                    g_BHPC = g_BHPC + (2.0 / (count - 1)) * grad_variance * gap_BHPC
                else:
                    weights_BP = ctx.weights_BP[part]
                    total, free = (n[:, None, None, None] for n in _counts(weights_BP, heads))
                    g_BHPC = grad_mean / total + (2.0 / free) * grad_variance * gap_BHPC
                    g_BHPC = weights_BP[:, None, :, None] * g_BHPC
                # softmax backward: dS_t = A_t * (g_t [t chosen] - sum_c g_c A_c)
                weighted_BHPC = g_BHPC * a_BHPC
                dS_BHPT = attention_BHPT * -weighted_BHPC.sum(dim=-1, keepdim=True)
                chosen = columns[:, None, None, :].expand_as(weighted_BHPC)
                dS_BHPT.scatter_add_(3, chosen, weighted_BHPC)
                dS_BHPT *= q_BHPD.shape[-1] ** -0.5
                dq.append(rearrange(dS_BHPT @ k_BHTD, "b h p d -> b p (h d)"))
                dk.append(rearrange(dS_BHPT.transpose(-1, -2) @ q_BHPD, "b h t d -> b t (h d)"))
        return torch.cat(dq).to(q_BPE.dtype), torch.cat(dk).to(k_BTE.dtype), None, None, None


def _counts(weights_BP: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """(B,) values that the mean divides by, and those that the variance does. Of a sample without
    weight, and of a single value, they are no zeros: its statistics are zeros."""
    total_B, squares_B = heads * weights_BP.sum(dim=1), heads * weights_BP.square().sum(dim=1)
    least = torch.finfo(weights_BP.dtype).tiny ** 0.5
    total_B = total_B.clamp_min(least)
    free_B = total_B - squares_B / total_B
    rounding = torch.finfo(weights_BP.dtype).eps * total_B
    return total_B, torch.where(free_B > rounding, free_B, torch.inf)


def _weighted(column_BCN: Tensor, weights_BP: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    weights_B1N = weights_BP.repeat(1, heads)[:, None]
    total, free = (n[:, None] for n in _counts(weights_BP, heads))
    mean_BC = (weights_B1N * column_BCN).sum(dim=2) / total
    gap_BCN = column_BCN - mean_BC[:, :, None]
    return mean_BC, (weights_B1N * gap_BCN.square()).sum(dim=2) / free


def _flat(column_BHPC: Tensor) -> Tensor:
    return rearrange(column_BHPC, "b h p c -> b c (h p)")


def _chunks(q_BPE: Tensor, k_BTE: Tensor, heads: int) -> Iterator[slice]:
    batch, pixels, _ = q_BPE.shape
    size = max(1, _CHUNK_VALUES // (heads * pixels * k_BTE.shape[1]))
    for start in range(0, batch, size):
        yield slice(start, min(start + size, batch))


def column_statistics(
    q_BPE: Tensor,
    k_BTE: Tensor,
    columns_BC: Tensor,
    heads: int,
    weights_BP: Tensor | None = None,
) -> MapStatistics:
    """Mean and unbiased variance over heads and pixels of the chosen attention columns, in fp32.

    Equal to taking them from the whole of softmax(Q K^T / sqrt(D)); differentiable in Q and K.
    `weights_BP`: what each pixel counts; None: all alike. Where nothing counts both are 0.
    """
    return MapStatistics(*_ColumnStatistics.apply(q_BPE, k_BTE, columns_BC, heads, weights_BP))
