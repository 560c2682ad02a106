"""Backend: what the training code asks of a diffusion model. The host's seam implements it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ..config.choices import Checkpointing
from ..data.tokens import TokenizedText
from .noise_schedule import Diffusion


class Model(Protocol):
    """A private, trainable copy of a Stable Diffusion model.

    Shapes: B batch, C latent channels, Y X latent pixels, T tokens, D text width, V vectors.
    """

    unet: nn.Module
    """Private U-Net with `attn2` cross-attention layers; fp32 parameters that require no grad."""
    diffusion: Diffusion
    """Noise schedule and prediction type."""
    text_model: nn.Module
    """The frozen text encoder."""
    device: torch.device
    """Where the U-Net computes."""

    def predict(self, z_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The U-Net's output, (B, C, Y, X)."""
        ...

    def checkpoint_activations(self, level: Checkpointing) -> None:
        """From now on the U-Net computes activations again in the backward pass, as `light` or
        `full` says: the same gradient, less memory."""
        ...

    def compile_blocks(self) -> None:
        """From now on the U-Net's blocks run compiled (torch.compile)."""
        ...

    def on_meta_device(self) -> Model:
        """The same on the meta device: computes shapes, holds no memory, shares nothing."""
        ...

    def encode_text(self, prompt: TokenizedText, vectors: Tensor) -> Tensor:
        """Text states (1, T, D), differentiable in the placeholder's vectors."""
        ...

    def offload_text_encoder(self) -> None:
        """The text encoder is not needed for long: its memory may be used for something else."""
        ...

    def initial_vectors(self, token_ids: tuple[int, ...], count: int) -> Tensor:
        """`count` copies (V, D) of the mean token embedding of some words, fp32."""
        ...

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Latents (B, C, Y, X), scaled as the U-Net expects, of pixels in 0..1."""
        ...
