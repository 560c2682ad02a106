"""Model: what the training code asks of a diffusion model. The host's seam implements it.

Shapes: B batch, C latent channels, Y X pixels of the latent, T tokens, D text width, V vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config.choices import Checkpointing, LayerChoice
from ..data.tokens import TokenizedText
from .conditioning import Conditioning, Embeddings
from .noise_schedule import Diffusion

See = Callable[[Tensor, Tensor], None]
"""Takes queries (B, P, E) and keys (B, T, E) of text attention, as its softmax gets them."""


class Handle(Protocol):
    """An observation that can be ended."""

    def remove(self) -> None:
        """Ends it."""
        ...

    def forget(self) -> None:
        """Drops a half that was seen without its other half."""
        ...


class TextAttention(Protocol):
    """One place where pixels attend to text: an `attn2`, or the text part of a joint block."""

    @property
    def name(self) -> str:
        """Its path in the denoiser."""
        ...

    @property
    def heads(self) -> int:
        """Attention heads."""
        ...

    @property
    def region(self) -> LayerChoice:
        """`down`, `middle` or `up`."""
        ...

    def observe(self, see: See) -> Handle:
        """From now on `see` is given queries and keys of every forward pass, also of those that
        gradient checkpointing makes again."""
        ...


class Runtime(Protocol):
    """How a private model computes. Checkpointing and offload change nothing that comes out;
    compiled blocks round otherwise, so that `compile` is part of what a run is known by."""

    def checkpoint_activations(self, level: Checkpointing) -> None:
        """From now on the denoiser computes activations again in the backward pass, as `light` or
        `full` says: the same gradient, less memory."""
        ...

    def compile_blocks(self) -> None:
        """From now on the denoiser's blocks run compiled (torch.compile)."""
        ...

    def offload_text_encoder(self) -> None:
        """The text encoder is not needed for long: its memory may be used for something else."""
        ...


class Model(Runtime, Protocol):
    """A private, trainable copy of a diffusion model."""

    unet: nn.Module
    """The denoiser; fp32 parameters that require no grad, on the device or waiting for a training
    in main memory (models/placement.py)."""
    diffusion: Diffusion
    """Noise schedule and prediction type."""
    device: torch.device
    """Where the denoiser computes."""

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """The frozen text encoders, by the name that embeddings have."""
        ...

    @property
    def base_weights(self) -> Mapping[str, Tensor]:
        """Those weights of the base model that the denoiser begins without, by name, fp32 on the
        CPU: what the concept that a training goes on from has changed."""
        ...

    @property
    def reads_sizes(self) -> bool:
        """Whether the denoiser is told the pooled text and the sizes of photo and crop."""
        ...

    def denoise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's output, (B, C, Y, X)."""
        ...

    def text_attention(self) -> Sequence[TextAttention]:
        """Every place where pixels attend to text, in the denoiser's order. ValueError without
        one."""
        ...

    def encode_text(self, prompt: TokenizedText, embeddings: Embeddings) -> Conditioning:
        """Of one prompt (B = 1), differentiable in the placeholder's vectors."""
        ...

    def encode_words(
        self, prompts: Sequence[TokenizedText], vectors: Embeddings, bypass: Embeddings
    ) -> tuple[Embeddings, Embeddings]:
        """Text states (N, T, D) of N prompts by encoder, for keys and for values of text attention,
        each prompt with vectors of its own for the placeholder, (N, V, D). The values' may have a
        bypass (N, V, D) added at the placeholder, in front of the encoder's last normalisation
        (models/space_time_mapper.py)."""
        ...

    def initial_embeddings(self, token_ids: tuple[int, ...], count: int) -> Embeddings:
        """`count` copies of the mean token embedding of some words, fp32, on the CPU."""
        ...

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Latents (B, C, Y, X), scaled as the denoiser expects, of pixels (B, Y, X, 3) in 0..1."""
        ...

    def on_meta_device(self) -> Model:
        """The same on the meta device: computes shapes, holds no memory, shares nothing."""
        ...
