"""layer_size: how a U-Net's layer lies over the latent."""

from __future__ import annotations


def layer_size(latent_size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Height and width of a layer with this many pixels: the latent halved, rounding up, until
    it fits. ValueError if it never does."""
    height, width = latent_size
    while height * width > pixels:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != pixels:
        raise ValueError(f"a layer of {pixels} pixels does not belong to a latent {latent_size}")
    return height, width
