"""The U-Net: ComfyUI's own UNetModel at a size that two CPU cores can train."""

import copy
from typing import Any

import torch
from torch import nn

from .autoencoder import LATENT_CHANNELS
from .text import TEXT_CONFIG

UNET_CONFIG: dict[str, Any] = {
    "image_size": 16,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": 128,
    "num_res_blocks": [1, 2, 2],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 1, 1, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "num_head_channels": 32,
    "num_heads": -1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "context_dim": TEXT_CONFIG["hidden_size"],
    "use_checkpoint": False,
    "legacy": False,
    "adm_in_channels": None,
}


def plain_attention(q, k, v, heads, mask=None, **_options):
    """softmax(q k^T / sqrt(d)) v by two matrix products: (B, N, H D) each.

    At 64 pixels its backward pass is three times as fast on a CPU as the fused kernel's.
    """
    if mask is not None:
        raise ValueError("plain_attention: a U-Net in training gets no mask")
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, H, N, D)
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def use_plain_attention() -> None:
    """Let the host's U-Net classes use `plain_attention` in this process (training only)."""
    import comfy.ldm.modules.attention as attention

    attention.optimized_attention = plain_attention


def new_unet(config: dict[str, Any] | None = None) -> nn.Module:
    """An untrained U-Net in fp32; ComfyUI must be importable.

    The host's layers leave their weights uninitialised, so each gets PyTorch's own initialisation,
    and the last layer of every residual path starts at zero.
    """
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel

    unet = UNetModel(**copy.deepcopy(config or UNET_CONFIG), dtype=torch.float32, device="cpu")
    for module in unet.modules():
        reset = getattr(module, "reset_parameters", None)
        if isinstance(module, nn.Linear):
            nn.Linear.reset_parameters(module)
        elif isinstance(module, nn.Conv2d):
            nn.Conv2d.reset_parameters(module)
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif reset is not None:
            raise TypeError(f"new_unet: no initialisation for {type(module).__name__}")
    zeroed: list[Any] = [m.out_layers[-1] for m in unet.modules() if isinstance(m, ResBlock)] + [
        unet.out[-1]
    ]
    ends = ("to_out.0", "ff.net.2")
    zeroed += [module for name, module in unet.named_modules() if name.endswith(ends)]
    for module in zeroed:
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    return unet
