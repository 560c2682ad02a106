"""How pictures become latents on this machine: how many at once, and what the VAE is known by."""

from __future__ import annotations

from typing import Any, cast

import comfy.model_management
import torch
from torch import Tensor

from .digests import autoencoder_digest

_MOST = 8
"""Crops in one call: more gain nothing."""
_SHARE = 4
"""A quarter of a memory may be taken by encoding, or by the latents that are kept."""
_PIXELS_ON_A_CPU = 256 * 256
"""Pixels in one call on a CPU: small pictures gain by company, larger ones fill it alone."""


def crops_at_once(vae: Any, resolution: int, device: torch.device) -> int:
    """Crops of this side that are encoded in one call.

    Decided by the size of the memory, never by what is free of it: another number gives other last
    bits, and one seed has to give the same bytes. (Where less is free than the VAE asks for, the
    host splits a call. What is kept on disk then stays as it was made.)
    """
    if device.type == "cpu":
        return max(1, min(_MOST, _PIXELS_ON_A_CPU // resolution**2))
    needed = getattr(vae, "memory_used_encode", None)
    if needed is None:
        return 1
    each = needed((1, 3, resolution, resolution), vae.vae_dtype)
    total = cast(int, comfy.model_management.get_total_memory(device))
    return max(1, min(_MOST, int(total / _SHARE / max(1, each))))


def room_for_latents() -> float:
    """Bytes of main memory that latents may take."""
    return cast(int, comfy.model_management.get_total_memory(torch.device("cpu"))) / _SHARE


def encoder_device(vae: Any, device: torch.device) -> torch.device:
    """Where a VAE encodes, which the owner may have moved away from `device` (--cpu-vae)."""
    return torch.device(getattr(vae, "device", None) or device)


def encoder_identity(vae: Any, device: torch.device) -> dict[str, Any]:
    """All of a VAE and its device that decides latents, as plain data."""
    device = encoder_device(vae, device)
    return {
        "vae_sha256": autoencoder_digest(vae),
        "vae_dtype": str(getattr(vae, "vae_dtype", None)).removeprefix("torch."),
        "device": _name_of(device),
    }


def _name_of(device: torch.device) -> str:
    """Two cards of one maker give different last bits. A Mac has one, and keeps to itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.xpu.get_device_name(device) if device.type == "xpu" else device.type


def check_finite(latent: Tensor, vae: Any) -> Tensor:
    """A latent of a photo as it is. ValueError, with the remedy, if it holds NaN or infinite
    values: the loss would be NaN, and look like a rate that is too high."""
    if bool(latent.isfinite().all()):
        return latent
    dtype = str(getattr(vae, "vae_dtype", "an unknown precision")).removeprefix("torch.")
    raise ValueError(
        f"VAE gives NaN or infinite values for a photo; it computes in {dtype}. SDXL's own is "
        "known to do that in fp16: start ComfyUI without --fp16-vae (or with --fp32-vae), or "
        "connect another VAE of the same family"
    )
