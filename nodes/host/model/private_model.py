"""PrivateModel: a private, trainable copy of the model on the wires (attndb's Model)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ....attndb.artifacts.weight_delta import WeightDelta, dense
from ....attndb.config.choices import Checkpointing
from ....attndb.data.tokens import TokenizedText
from ....attndb.memory.meta_trace import META, on_meta_device
from ....attndb.models.conditioning import Conditioning, Embeddings
from ....attndb.models.cross_attention import CrossAttentionLayer, cross_attention_layers
from ....attndb.models.noise_schedule import Diffusion
from .checkpointing import checkpoint_activations
from .families import is_v_prediction
from .photo_encoder import PhotoEncoder
from .placeholders import encoder_names
from .private_unet import attend_as, compile_blocks, private_unet, text_by_layer
from .room import make_room
from .size_conditioning import pooled_with_sizes
from .text_encoder import TextEncoder


class PrivateModel:
    """ComfyUI's U-Net, text encoders and VAE behind the training code's Model protocol."""

    def __init__(
        self,
        unet: nn.Module,
        text: Mapping[str, TextEncoder],
        diffusion: Diffusion,
        device: torch.device,
        encode_image: PhotoEncoder | None = None,
        base_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`text`: by the name that embedding files have for the encoder. `base_weights`: the base's
        where the U-Net has others, in main memory."""
        self.unet = unet
        self.text_encoders = {name: encoder.model for name, encoder in text.items()}
        self.diffusion = diffusion
        self.device = device
        self.base_weights = dict(base_weights or {})
        self._text = text
        self._encode_image = encode_image
        if device != META:  # a trace has it from the model that it is of
            attend_as(unet, device)

    def denoise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's output, (B, C, Y, X). It reads the text encoders' states side by side. Raises
        the host's interrupt if the user pressed Cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        states = list(conditioning.text.values())
        context = states[0] if len(states) == 1 else torch.cat(states, dim=-1)
        if conditioning.layers:
            context = text_by_layer(context, conditioning.layers, self.text_attention())
        y = pooled_with_sizes(conditioning, z_t) if self.reads_sizes else None
        reference, samples = conditioning.reference, len(z_t)
        if reference is not None:
            z_t, t = torch.cat([z_t, reference]), torch.cat([t, t])
            context = torch.cat([context, context])
            y = None if y is None else torch.cat([y, y])
        return self.unet(z_t, t, context=context, y=y, transformer_options={})[:samples]

    @property
    def reads_sizes(self) -> bool:
        """Whether the U-Net is told the pooled text and the picture's sizes (SDXL)."""
        return self.unet.num_classes is not None

    def text_attention(self) -> Sequence[CrossAttentionLayer]:
        """The U-Net's `attn2` layers."""
        return cross_attention_layers(self.unet)

    @property
    def latent_channels(self) -> int:
        """C of the latents that the U-Net takes."""
        return int(self.unet.in_channels)  # type: ignore[arg-type]

    def checkpoint_activations(self, level: Checkpointing) -> None:
        """Computes activations again in the backward pass instead of keeping them."""
        checkpoint_activations(self.unet, level)

    def compile_blocks(self) -> None:
        """Compiles what a U-Net is made of, block by block."""
        compile_blocks(self.unet)

    def on_meta_device(self) -> PrivateModel:
        """The same on the meta device: computes shapes, holds no memory, shares nothing."""
        text = {name: encoder.on_meta_device() for name, encoder in self._text.items()}
        base = {name: torch.empty_like(w, device=META) for name, w in self.base_weights.items()}
        unet = on_meta_device(self.unet)
        return PrivateModel(unet, text, self.diffusion, META, base_weights=base)

    def encode_text(self, prompt: TokenizedText, embeddings: Embeddings) -> Conditioning:
        """Of one prompt, differentiable in the placeholder's vectors."""
        states, pooled = {}, None
        for name, encoder in self._text.items():
            states[name], own = encoder.to(self.device).encode(prompt, embeddings[name])
            pooled = own if self.reads_sizes else None  # the last encoder's
        return Conditioning(states, pooled)

    def encode_words(
        self, prompts: Sequence[TokenizedText], vectors: Embeddings, bypass: Embeddings
    ) -> tuple[Embeddings, Embeddings]:
        """States for keys and for values, differentiable in vectors and bypass."""
        both = {
            name: encoder.to(self.device).encode_words(prompts, vectors[name], bypass.get(name))
            for name, encoder in self._text.items()
        }
        return {n: keys for n, (keys, _) in both.items()}, {n: v for n, (_, v) in both.items()}

    def offload_text_encoder(self) -> None:
        """Moves the text encoders to main memory, until they are asked again."""
        for encoder in self._text.values():
            encoder.to(torch.device("cpu"))

    def initial_embeddings(self, token_ids: tuple[int, ...], count: int) -> dict[str, Tensor]:
        """`count` copies (V, D) of the mean token embedding of some words, fp32, on the CPU."""
        return {
            name: rows.to(self.device).mean(dim=0, keepdim=True).repeat(count, 1).cpu()
            for name, encoder in self._text.items()
            for rows in [encoder.rows(token_ids)]
        }

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Latents (B, C, Y, X), scaled as the U-Net expects, of pixels (B, Y, X, 3) in 0..1."""
        assert self._encode_image is not None, "this model was made without a VAE"
        return self._encode_image(pixels)

    @property
    def encoded_in_tiles(self) -> int:
        """Of the photos so far, those for which memory did not suffice otherwise."""
        return 0 if self._encode_image is None else self._encode_image.in_tiles

    def offload_autoencoder(self) -> None:
        """Takes the VAE, and whatever else the host has loaded, off the GPU."""
        make_room(self.device)


def private_model(
    model: Any,
    clip: Any,
    vae: Any,
    weights: Mapping[str, Tensor],
    delta: Mapping[str, WeightDelta],
    in_tiles: Callable[[], None] = lambda: None,
) -> PrivateModel:
    """Of the wires: the U-Net with these base weights plus a concept's change. `in_tiles`: called
    when photos were encoded in tiles."""
    device = comfy.model_management.get_torch_device()
    start = {name: w + dense(delta[name]) if name in delta else w for name, w in weights.items()}
    unet = private_unet(model.model.model_config.unet_config, start, device)
    diffusion = Diffusion(
        alphas_cumprod=_alphas_cumprod(model),
        prediction_type="v" if is_v_prediction(model) else "epsilon",
    )

    names = encoder_names(clip.cond_stage_model)
    text = {name: TextEncoder.from_clip(clip, name, device) for name in names}
    base = {name: weights[name] for name in delta}
    return PrivateModel(unet, text, diffusion, device, PhotoEncoder(model, vae, in_tiles), base)


def _alphas_cumprod(model: Any) -> Tensor:
    """abar_t from the host's sigmas: sigma^2 = (1 - abar) / abar."""
    sigmas = model.get_model_object("model_sampling").sigmas.detach().cpu().double()
    return (1.0 / (1.0 + sigmas.square())).clone()


@contextmanager
def training_mode() -> Iterator[None]:
    """The host's state for training: gradients on, memory free, everything restored at the end."""
    management = comfy.model_management
    was_training = getattr(management, "in_training", None)
    make_room(management.get_torch_device())
    try:
        if was_training is not None:
            management.in_training = True
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        if was_training is not None:
            management.in_training = was_training
        management.soft_empty_cache()
