"""Image cross-attention: pixels of a picture look at those of a reference image (Hao et al. 2023).

Shapes: B pictures, H heads, P pixels of a picture, R pixels of the reference, D head dim, E = H D.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .seeded_linear import seeded_linear

_BINS = 10
"""Of Otsu's method, as in the published code."""


class ImageCrossAttention(nn.Module):
    """A transformer block that stands behind one of the U-Net's: self-attention, attention to the
    reference where a mask lets it, feed-forward (section 3.2). Parameters are named as the U-Net's
    own are; the first weights are PyTorch's, as published."""

    def __init__(self, width: int, heads: int, generator: torch.Generator | None = None) -> None:
        """`width`: E; `generator`: of the first weights."""
        super().__init__()
        self.attn1 = _Attention(width, heads, generator)
        self.ff = _FeedForward(width, generator)
        self.attn2 = _Attention(width, heads, generator)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, reference: Tensor, keep: Tensor) -> Tensor:
        """States (B, P, E) of a picture with what it finds in those of the reference (B, R, E),
        looking only where `keep` (B, R) is true."""
        n_BPE = self.norm1(x)
        x_BPE = x + self.attn1(n_BPE, n_BPE)
        x_BPE = x_BPE + self.attn2(self.norm2(x_BPE), reference, keep)
        return x_BPE + self.ff(self.norm3(x_BPE))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = seeded_linear(width, width, generator, bias=False)
        self.to_k = seeded_linear(width, width, generator, bias=False)
        self.to_v = seeded_linear(width, width, generator, bias=False)
        self.to_out = nn.Sequential(seeded_linear(width, width, generator))

    def forward(self, x: Tensor, source: Tensor, keep: Tensor | None = None) -> Tensor:
        q_BHPD, k_BHRD, v_BHRD = (
            rearrange(projected, "b p (h d) -> b h p d", h=self.heads)
            for projected in (self.to_q(x), self.to_k(source), self.to_v(source))
        )
        mask_B11R = None if keep is None else keep[:, None, None]
        out_BHPD = F.scaled_dot_product_attention(q_BHPD, k_BHRD, v_BHRD, attn_mask=mask_B11R)
        return self.to_out(rearrange(out_BHPD, "b h p d -> b p (h d)"))


class _GatedGELU(nn.Module):
    def __init__(self, width: int, inner: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.proj = seeded_linear(width, 2 * inner, generator)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class _FeedForward(nn.Module):
    def __init__(self, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        inner = 4 * width
        last = seeded_linear(inner, width, generator)
        self.net = nn.Sequential(_GatedGELU(width, inner, generator), nn.Identity(), last)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@torch.no_grad()
def otsu_mask(maps: Tensor) -> Tensor:
    """Where maps (B, R) are bright, (B, R) bool: at least the threshold that parts 10 equal steps
    between the darkest and the brightest value best (Otsu 1979). Never empty; of a map that is the
    same everywhere it is all."""
    maps_BR = maps.float()
    darkest_B1, brightest_B1 = maps_BR.amin(1, keepdim=True), maps_BR.amax(1, keepdim=True)
    tiny = torch.finfo(torch.float32).tiny
    level_BR = (maps_BR - darkest_B1) / (brightest_B1 - darkest_B1).clamp(min=tiny)
    best_B1, threshold_B1 = torch.zeros_like(darkest_B1), torch.zeros_like(darkest_B1)
    for step in range(1, _BINS):
        high_BR = (level_BR >= step / _BINS).float()
        share_B1 = high_BR.mean(1, keepdim=True)
        sum_B1 = (high_BR * level_BR).mean(1, keepdim=True)
        rest_B1 = level_BR.mean(1, keepdim=True) - sum_B1
        gap_B1 = sum_B1 / share_B1.clamp(min=tiny) - rest_B1 / (1 - share_B1).clamp(min=tiny)
        between_B1 = share_B1 * (1 - share_B1) * gap_B1.square()
        threshold_B1 = torch.where(between_B1 > best_B1, step / _BINS, threshold_B1)
        best_B1 = torch.maximum(best_B1, between_B1)
    return level_BR >= threshold_B1
