"""Stable Diffusion's autoencoder without its weights: its structure, to trace or to fill."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


def kl_vae(
    *,
    dtype: torch.dtype = torch.float32,
    on: str = "cpu",
    channels: int = 128,
    attention: str = "pytorch_attention",
    held_on: str = "meta",
) -> Any:
    """As much of a VAE as says what encoding takes; needs `host_on_path()`.

    on: the kind of device that it says it encodes on. channels: of its finest level; the real one
    has 128. attention: the host's function for it, `normal_attention` where it splits. held_on: the
    device that its tensors are on.
    """
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules import model as layers

    config = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3}
    config |= {"ch": channels, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "dropout": 0.0}
    with torch.inference_mode(False), torch.device(held_on):
        module = AutoencoderKL(ddconfig={**config, "attn_resolutions": []}, embed_dim=4).eval()
    for part in module.modules():
        if hasattr(part, "optimized_attention"):
            part.optimized_attention = getattr(layers, attention)
    return SimpleNamespace(
        first_stage_model=module.to(dtype), vae_dtype=dtype, device=torch.device(on)
    )
