"""The models that are timed: U-Net, text encoder and autoencoder by size, with random weights.

Time and memory do not depend on what the weights say, so real ones are not needed. Both sides of a
comparison are loaded with the same values.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..devkit.tiny_model import random_weights

START, END, FIRST_NEW_ID = 49406, 49407, 49408
PROMPT = (START, 320, 1125, 539, 320, FIRST_NEW_ID, 7061, END)
"""`a photo of a [V] doll`, as token ids of CLIP."""
PLACEHOLDER, CATEGORY = 5, 6
"""Positions in the prompt."""
TOKENS = 77

_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "num_heads": -1,
    "num_head_channels": -1,
    "legacy": False,
    "adm_in_channels": None,
}
_TWO_LEVELS: dict[str, Any] = {
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1],
}
_FOUR_LEVELS: dict[str, Any] = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}


def _clip(width: int, layers: int, heads: int, activation: str) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": activation,
        "max_position_embeddings": TOKENS,
        "vocab_size": FIRST_NEW_ID,
        "eos_token_id": END,
    }


@dataclass(frozen=True, kw_only=True)
class Size:
    """One model to measure, and on what."""

    name: str
    unet: dict[str, Any] = field(repr=False)
    """Arguments of ComfyUI's UNetModel."""
    clip: dict[str, Any] = field(repr=False)
    """Of the CLIP text model."""
    clip_skip: int = 0
    """Last layers of the text encoder that are not used (SD 2, SDXL: 1)."""
    second_clip: dict[str, Any] = field(default_factory=dict, repr=False)
    """Of SDXL's second text encoder, as deep; others have none."""
    autoencoder: Literal["kl", "micro"] = "kl"
    """Stable Diffusion's own autoencoder, or the micro model's."""
    resolution: int = 256
    """Side of the pictures in pixels; latents have an eighth of it."""
    batch: int = 2

    @property
    def encoders(self) -> dict[str, dict[str, Any]]:
        """Configurations of the text encoders by the name that embeddings have."""
        return {"clip_l": self.clip, **({"clip_g": self.second_clip} if self.second_clip else {})}

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(B, C, Y, X)."""
        side = self.resolution // 8
        return self.batch, self.unet["in_channels"], side, side

    def at(self, resolution: int, batch: int) -> Size:
        """The same model on other pictures."""
        return replace(self, resolution=resolution, batch=batch)


def micro() -> Size:
    """The embedded demo model: 128 px."""
    from ..micro.text import TEXT_CONFIG
    from ..micro.unet import UNET_CONFIG

    unet, clip = copy.deepcopy(UNET_CONFIG), dict(TEXT_CONFIG)
    return Size(name="micro", unet=unet, clip=clip, autoencoder="micro", resolution=128, batch=8)


def sd15_small() -> Size:
    """SD 1.5's layout with two levels, 44 M; text encoder and autoencoder of full size."""
    unet = {**_UNET, **_TWO_LEVELS, "num_heads": 8, "context_dim": 768}
    unet["use_linear_in_transformer"] = False
    return Size(name="sd15-small", unet=unet, clip=_clip(768, 12, 12, "quick_gelu"))


def sd15() -> Size:
    """SD 1.5 at full size, 860 M."""
    unet = {**_UNET, **_FOUR_LEVELS, "num_heads": 8, "context_dim": 768}
    unet["use_linear_in_transformer"] = False
    return Size(name="sd15", unet=unet, clip=_clip(768, 12, 12, "quick_gelu"), batch=1)


def sd21() -> Size:
    """SD 2.1 at full size, 866 M."""
    unet = {**_UNET, **_FOUR_LEVELS, "num_head_channels": 64, "context_dim": 1024}
    unet["use_linear_in_transformer"] = True
    return Size(name="sd21", unet=unet, clip=_clip(1024, 24, 16, "gelu"), clip_skip=1, batch=1)


def sdxl() -> Size:
    """SDXL at full size, 2,567 M, with both text encoders: to estimate, not to time on a CPU."""
    unet = {**_UNET, "num_head_channels": 64, "context_dim": 2048}
    unet |= {
        "use_linear_in_transformer": True,
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_middle": 10,
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "num_classes": "sequential",
        "adm_in_channels": 2816,
    }
    return Size(
        name="sdxl",
        unet=unet,
        clip=_clip(768, 12, 12, "quick_gelu"),
        second_clip=_clip(1280, 32, 20, "gelu"),
        clip_skip=1,
        resolution=1024,
        batch=1,
    )


def tiny() -> Size:
    """A few thousand parameters: for a dry run, not to measure."""
    from ..devkit.tiny_model import CLIP_CONFIG, UNET_CONFIG

    return Size(name="tiny", unet=UNET_CONFIG, clip=CLIP_CONFIG, autoencoder="micro", resolution=64)


@dataclass(frozen=True)
class Weights:
    """Random weights of a size, fp32 on the CPU, under ComfyUI's names."""

    unet: dict[str, Tensor]
    text: dict[str, Tensor]
    """Under the names of the transformers library (`text_model. ...`)."""


def weights_of(size: Size, seed: int = 0) -> Weights:
    """Seeded weights; the host must be importable."""
    import comfy.ops
    from comfy.clip_model import CLIPTextModel
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        **copy.deepcopy(size.unet),
        dtype=torch.float32,
        device="meta",
        operations=comfy.ops.disable_weight_init,
    )
    text = CLIPTextModel(size.clip, torch.float32, "meta", comfy.ops.disable_weight_init)
    named = random_weights(text, seed + 1)
    return Weights(
        random_weights(unet, seed),
        {k: v for k, v in named.items() if "proj" not in k.split(".")[0]},
    )


@dataclass(frozen=True)
class Inputs:
    """What one step of either side is fed."""

    latents: Tensor
    """(B, C, Y, X)."""
    noise: Tensor
    timesteps: Tensor
    pixels: Tensor
    """(B, 3, H, W) in -1..1: for the side that encodes."""


def inputs_of(size: Size, seed: int) -> Inputs:
    """Seeded random inputs on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(size.latent_shape, generator=generator)
    pixels = torch.rand(size.batch, 3, size.resolution, size.resolution, generator=generator)
    return Inputs(
        latents,
        torch.randn(latents.shape, generator=generator),
        torch.randint(0, 1000, (size.batch,), generator=generator),
        2.0 * pixels - 1.0,
    )


def autoencoder_of(size: Size) -> Any:
    """The autoencoder that the published step runs, with random weights: a module of our own or of
    diffusers, whose `encode` gives latents or their distribution."""
    if size.autoencoder == "micro":
        from ..micro.autoencoder import Autoencoder

        return Autoencoder(size.unet["in_channels"])
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    blocks: dict[str, Any] = {  # diffusers declares tuples of one
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    return AutoencoderKL(
        **blocks,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.18215,
    )
