"""A diffusion model of a few thousand parameters behind the host's own classes, and its batches.

Small enough to train in milliseconds, with cross-attention sharp enough to be regularised.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .host_path import host_on_path

UNET_CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1],
    "num_heads": -1,
    "num_head_channels": 16,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "context_dim": 32,
    "legacy": False,
    "adm_in_channels": None,
}
ONE_LEVEL: dict[str, Any] = {
    "channel_mult": [1],
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}
"""Changes that leave blocks of every kind, half as many."""
CLIP_CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "vocab_size": 49408,
    "eos_token_id": 49407,
}
XL_WIDTHS = {"clip_l": 32, "clip_g": 48}
"""Of the two text encoders of `tiny_xl_model`."""
START, END = 49406, 49407
PHOTO_OF = (320, 1125, 539, 320)
"""Ids of `a photo of a`."""
DOLL = 7061


def random_weights(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights for a module's state dict: norms near one, the rest normal over its fan-in.

    Nothing is zero, so every parameter matters; cross-attention is sharpened.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, like in sorted(module.state_dict().items()):
        if not like.is_floating_point():
            continue
        noise = torch.randn(like.shape, generator=generator)
        if like.dim() == 1:
            weights[name] = 0.05 * noise + float(name.endswith("weight"))
        elif "embedding" in name:
            weights[name] = 0.3 * noise
        else:
            sharp = 2.0 if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight")) else 0.7
            weights[name] = sharp * noise / like[0].numel() ** 0.5
    return weights


def plain_unet(config: dict[str, Any], seed: int = 0, weights: Any = None) -> nn.Module:
    """The host's own U-Net class, fp32 on the CPU, as it comes, with seeded weights."""
    host_on_path()
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        **copy.deepcopy(config),  # it takes its lists apart
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    unet.load_state_dict(random_weights(unet, seed) if weights is None else weights)
    return unet.eval().requires_grad_(False)


def plain_clip(config: dict[str, Any], seed: int = 1) -> Any:
    """The host's own CLIP text model of a small size, fp32, with seeded weights."""
    host_on_path()
    import comfy.ops
    from comfy.sd1_clip import SDClipModel

    model = SDClipModel(
        textmodel_json_config=config,
        dtype=torch.float32,
        layer="last",
        model_options={"custom_operations": comfy.ops.disable_weight_init},
    )
    key = (json.dumps(config, sort_keys=True), seed)
    if key not in _CLIP_WEIGHTS:
        _CLIP_WEIGHTS[key] = random_weights(model.transformer, seed)
    model.transformer.load_state_dict(_CLIP_WEIGHTS[key])
    return model.eval().requires_grad_(False)


_CLIP_WEIGHTS: dict[tuple[str, int], dict[str, Tensor]] = {}
"""By configuration and seed: drawing them takes longer than all else."""


@functools.cache
def _unet_weights(config: str, seed: int) -> dict[str, Tensor]:
    return plain_unet(json.loads(config), seed).state_dict()


def tiny_model(
    prediction_type: str = "epsilon", seed: int = 0, *, levels: int = 1, **unet_changes: Any
) -> Any:
    """A PrivateModel over a tiny private U-Net and text encoder; without a VAE. levels: 2 where it
    matters that the U-Net gets smaller and larger; a training takes twice as long then."""
    host_on_path()
    from ..nodes.host.model.text_encoder import TextEncoder

    text = {"clip_l": TextEncoder(plain_clip(CLIP_CONFIG, seed + 1))}
    config = UNET_CONFIG if levels == 2 else {**UNET_CONFIG, **ONE_LEVEL}
    return _private_model({**config, **unet_changes}, text, prediction_type, seed)


def tiny_xl_model(seed: int = 0) -> Any:
    """A PrivateModel as SDXL is one: two text encoders, one of them wider and filled up with zeros,
    whose pooled text the U-Net reads with the sizes of photo and crop."""
    host_on_path()
    from ..nodes.host.model.text_encoder import TextEncoder

    wide = {**CLIP_CONFIG, "hidden_size": XL_WIDTHS["clip_g"]}
    config = {
        **UNET_CONFIG,
        "context_dim": sum(XL_WIDTHS.values()),
        "num_classes": "sequential",
        "adm_in_channels": XL_WIDTHS["clip_g"] + 6 * 256,
    }
    text = {
        "clip_l": TextEncoder(plain_clip(CLIP_CONFIG, seed + 1)),
        "clip_g": TextEncoder(plain_clip(wide, seed + 2), padding=(END, 0)),
    }
    return _private_model(config, text, "epsilon", seed)


def _private_model(
    config: dict[str, Any], text: dict[str, Any], prediction_type: Any, seed: int
) -> Any:
    from ..attndb.models.noise_schedule import Diffusion, scaled_linear_alphas_cumprod
    from ..nodes.host.model.private_model import PrivateModel
    from ..nodes.host.model.private_unet import private_unet

    device, schedule = torch.device("cpu"), scaled_linear_alphas_cumprod()
    weights = _unet_weights(json.dumps(config, sort_keys=True), seed)
    unet = private_unet(config, {name: w.clone() for name, w in weights.items()}, device)
    diffusion = Diffusion(alphas_cumprod=schedule, prediction_type=prediction_type)
    return PrivateModel(unet, text, diffusion, device)


def prompt_of(
    *, vectors: int = 1, before: Sequence[int] = PHOTO_OF, category: int = DOLL, text: str = ""
) -> Any:
    """`a photo of a [V] doll` as token ids, one chunk of 77."""
    from ..attndb.data.tokens import TokenizedPrompt

    tokens = [START, *before, *([None] * vectors), category]
    place = len(tokens) - 1
    tokens += [END] * (77 - len(tokens))
    return TokenizedPrompt(text or f"prompt {tuple(before)}", tuple(tokens), place)


def random_batch(
    size: int,
    *,
    seed: int = 0,
    side: int = 8,
    prompts: Sequence[Any] = (),
    masked: bool = False,
    sized: bool = False,
) -> Any:
    """A batch of random latents; prompts are cycled through. `sized`: of photos of random sizes."""
    from ..attndb.data.batch import Batch

    generator = torch.Generator().manual_seed(seed)
    prompts = prompts or (prompt_of(),)
    latents = torch.randn(size, 4, side, side, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    mask = (torch.rand(size, 1, side, side, generator=generator) > 0.3).float()
    return Batch(
        latents,
        noise,
        torch.randint(0, 1000, (size,), generator=generator),
        tuple(prompts[i % len(prompts)] for i in range(size)),
        mask if masked else None,
        sizes=torch.randint(64, 900, (size, 6), generator=generator).float() if sized else None,
        reference=torch.randn(latents.shape, generator=generator),
    )


class RandomBatches:
    """A batch source: step s is a random batch seeded by s."""

    def __init__(self, size: int = 4, seed: int = 0, **options: Any) -> None:
        self._size, self._seed, self._options = size, seed, options

    def __getitem__(self, step: int) -> Any:
        return random_batch(self._size, seed=1000 * self._seed + step, **self._options)
