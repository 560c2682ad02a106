"""ViCo's mask and block, slowly and by themselves (Hao et al. 2023, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def slow_otsu(values: list[float]) -> list[bool]:
    """Which values are bright: of the splits at 0.1 .. 0.9 of the range that with the largest
    variance between both sides."""
    low, high = min(values), max(values)
    if low == high:
        return [True] * len(values)
    levels = [(value - low) / (high - low) for value in values]
    best, chosen = 0.0, 0.0
    for step in range(1, 10):
        dark = [level for level in levels if level < step / 10]
        bright = [level for level in levels if level >= step / 10]
        means = sum(dark) / len(dark), sum(bright) / len(bright)
        between = len(dark) * len(bright) / len(levels) ** 2 * (means[0] - means[1]) ** 2
        if between > best:
            best, chosen = between, step / 10
    return [level >= chosen for level in levels]


def slow_attention(w: dict[str, Tensor], x: Tensor, source: Tensor, heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of one picture, head by head."""
    q, k, v = x @ w["to_q.weight"].T, source @ w["to_k.weight"].T, source @ w["to_v.weight"].T
    size = q.shape[1] // heads
    parts = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        shares = (q[:, own] @ k[:, own].T / math.sqrt(size)).exp()
        parts.append(shares / shares.sum(dim=1, keepdim=True) @ v[:, own])
    return torch.cat(parts, dim=1) @ w["to_out.0.weight"].T + w["to_out.0.bias"]


def slow_block(
    w: dict[str, Tensor], x: Tensor, reference: Tensor, keep: list[bool], heads: int
) -> Tensor:
    """The image cross-attention block on one picture (P, E): pixels of the reference that are not
    kept are not there."""

    def part(name: str) -> dict[str, Tensor]:
        return {n.removeprefix(f"{name}."): v for n, v in w.items() if n.startswith(f"{name}.")}

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    n = norm(x, "norm1")
    x = x + slow_attention(part("attn1"), n, n, heads)
    kept = torch.stack([row for row, yes in zip(reference, keep, strict=True) if yes])
    x = x + slow_attention(part("attn2"), norm(x, "norm2"), kept, heads)
    inner = norm(x, "norm3") @ w["ff.net.0.proj.weight"].T + w["ff.net.0.proj.bias"]
    value, gate = inner[:, : inner.shape[1] // 2], inner[:, inner.shape[1] // 2 :]
    gated = value * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
    return x + gated @ w["ff.net.2.weight"].T + w["ff.net.2.bias"]
