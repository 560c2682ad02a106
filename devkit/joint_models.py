"""Small models with joint attention, of the host's own classes: SD 3 and Flux, seeded weights."""

from __future__ import annotations

from typing import Any, Literal

import torch

from .tiny_model import random_weights

Joint = Literal["sd3", "flux"]
CONTEXT, POOLED = 48, 24
"""Widths of the text states and of the pooled state; the real ones are 4096, and 2048 or 768."""

_SD3: dict[str, Any] = {
    "in_channels": 16,
    "patch_size": 2,
    "depth": 2,
    "input_size": None,
    "adm_in_channels": POOLED,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": CONTEXT, "out_features": 128},
    },
    "num_patches": 24 * 24,
    "pos_embed_max_size": 24,
    "pos_embed_scaling_factor": None,
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
}
_FLUX: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": POOLED,
    "context_in_dim": CONTEXT,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}


def small_joint_model(kind: Joint) -> Any:
    """A MODEL of the family whose denoiser has two blocks of each kind that it has."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    models, management = comfy.supported_models, comfy.model_management
    family = models.SD3(dict(_SD3)) if kind == "sd3" else models.Flux(dict(_FLUX))
    family.set_inference_dtype(torch.float32, None)
    offload = management.unet_offload_device()
    with torch.inference_mode():
        model = family.get_model({}, "", device=offload)
        model.diffusion_model.load_state_dict(random_weights(model.diffusion_model, 5))
    return comfy.model_patcher.ModelPatcher(
        model, load_device=management.get_torch_device(), offload_device=offload
    )


def joint_conditioning(seed: int, tokens: int) -> list[Any]:
    """CONDITIONING of random text states (1, tokens, D) and a random pooled state."""
    draw = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, POOLED, generator=draw)
    return [[torch.randn(1, tokens, CONTEXT, generator=draw), {"pooled_output": pooled}]]
