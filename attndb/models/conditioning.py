"""Conditioning: what a denoiser is told besides the noisy latent and its timestep.

Shapes: B batch, T tokens, D text width, V the placeholder's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

Embeddings: TypeAlias = Mapping[str, Tensor]
"""The placeholder's vectors (V, D) by text encoder, named as in embedding files (`clip_l`, ...)."""


@dataclass(frozen=True)
class Conditioning:
    """Of a batch of samples, or of one prompt (B = 1)."""

    text: Mapping[str, Tensor]
    """Text states (B, T, D) by text encoder."""
    pooled: Tensor | None = None
    """Pooled text (B, D), where the model takes it (SDXL)."""
    layers: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Sources (B, T, D) of keys and of values for single text attention layers, by name; the others
    read `text`."""
    reference: Tensor | None = None
    """Latents (B, C, Y, X) of reference images that run through the denoiser beside the samples, at
    their timesteps and with their text, for methods that look at one."""
    sizes: Tensor | None = None
    """(B, 6) pixels: height and width of the picture as it was, top and left of the crop in it once
    scaled, height and width of the crop, where the model is told them (SDXL, section 2.2)."""

    def with_sizes(self, sizes: Tensor | None) -> Conditioning:
        """The same for pictures of these sizes."""
        return replace(self, sizes=sizes)

    @classmethod
    def joined(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Several as one batch, in their order. They are of one kind."""
        first = parts[0]

        def cat(tensors: Sequence[Tensor | None]) -> Tensor | None:
            present = [tensor for tensor in tensors if tensor is not None]
            assert len(present) in (0, len(parts)), "conditionings of different kinds"
            return torch.cat(present) if present else None

        return cls(
            {name: torch.cat([part.text[name] for part in parts]) for name in first.text},
            cat([part.pooled for part in parts]),
            {
                name: (
                    torch.cat([part.layers[name][0] for part in parts]),
                    torch.cat([part.layers[name][1] for part in parts]),
                )
                for name in first.layers
            },
            cat([part.reference for part in parts]),
            cat([part.sizes for part in parts]),
        )
