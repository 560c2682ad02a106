"""PhotoEncoder: photos as latents of a U-Net, and how many of them the host made in tiles.

Where a VAE runs out of memory, the host encodes the same pictures again tile by tile: latents that
are a little other ones, with no word but a line in its log. Started with --fp16-intermediates it
rounds what a VAE gives to half: neither a run nor a kept latent says so, hence ours are whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .encoding import check_finite

_TILED = ("encode_tiled_", "encode_tiled_1d", "encode_tiled_3d", "_encode_tiled_owned")
"""What `VAE.encode` calls then, each by its kind of latents."""
IN_TILES = (
    "memory ran out while photos were encoded, and ComfyUI encoded them in tiles: what is learned "
    "is a little other than with the same seed and more memory. These latents are not kept for "
    "the next training. Close what else uses the device, or lower the resolution"
)
"""What the user is told of it."""


class PhotoEncoder:
    """A VAE's latents of photos as a MODEL's U-Net expects them."""

    def __init__(self, model: Any, vae: Any, told: Callable[[], None] = lambda: None) -> None:
        """`told`: called when photos were encoded in tiles."""
        self._model, self._vae, self._told = model, vae, told
        self.in_tiles = 0
        """Photos that were, so far."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Latents (B, C, Y, X) of pixels (B, Y, X, 3) in 0..1."""
        tiles: list[str] = []
        vae = _whole_and_noting(self._vae, tiles)
        with torch.inference_mode():
            latent = self._model.model.process_latent_in(vae.encode(pixels))
        if tiles:
            self.in_tiles += len(pixels)
            self._told()
        return check_finite(latent, self._vae).clone()


def _whole_and_noting(vae: Any, tiles: list[str]) -> Any:
    """The same VAE, which gives fp32 and notes in `tiles` when it encodes in them: a shallow copy,
    for one on a wire is somebody's. Its own where another pack made it so that it cannot be
    copied."""
    try:
        noting = copy.copy(vae)
        noting.vae_output_dtype = lambda: torch.float32
        for name in _TILED:
            plain = getattr(noting, name, None)
            if plain is not None:
                setattr(noting, name, _noted(plain, name, tiles))
    except Exception:
        return vae
    return noting


def _noted(plain: Callable[..., Any], name: str, tiles: list[str]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        tiles.append(name)
        return plain(*args, **kwargs)

    return call
