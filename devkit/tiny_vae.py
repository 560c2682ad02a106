"""A hand-made autoencoder of the TAESD architecture: 8 x 8 block means in, a smooth mosaic out.

Nothing is random in it: latents are the photo's colours, so tests train on and look at pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONTRAST = 4.0  # latent = CONTRAST * (colour - 0.5), so that its standard deviation is about one
LATENT_SCALE = 0.18215  # of Stable Diffusion: what the loader multiplies latents by


def tiny_vae_weights() -> dict[str, Tensor]:
    """State dict (fp32) of the host's TAESD, encoder and decoder; needs `host_on_path()`."""
    from comfy.taesd.taesd import TAESD

    vae = TAESD()
    for parameter in vae.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        vae.vae_scale.fill_(LATENT_SCALE)
        _fill_encoder([m for m in vae.taesd_encoder if isinstance(m, nn.Conv2d)])
        _fill_decoder([m for m in vae.taesd_decoder if isinstance(m, nn.Conv2d)])
    return {key: tensor.detach().clone() for key, tensor in vae.state_dict().items()}


def _fill_encoder(convs: list[nn.Conv2d]) -> None:
    """Colours pass through; each of three strided convolutions takes the mean of 2 x 2 pixels."""
    colours_in, *halvings, latents_out = convs
    for c in range(3):
        colours_in.weight[c, c, 1, 1] = 1.0
        for conv in halvings:
            conv.weight[c, c, 1:, 1:] = 0.25
        latents_out.weight[c, c, 1, 1] = CONTRAST
        latents_out.weight[3, c, 1, 1] = CONTRAST / 3  # the fourth channel: luminance
    assert latents_out.bias is not None
    latents_out.bias.fill_(-CONTRAST / 2)


def _fill_decoder(convs: list[nn.Conv2d]) -> None:
    """Latents back to colours, then three doublings, each softened by a binomial kernel."""
    latents_in, *doublings, colours_out = convs
    row = torch.tensor([0.25, 0.5, 0.25])
    assert latents_in.bias is not None
    for c in range(3):
        latents_in.weight[c, c, 1, 1] = 1.0 / CONTRAST
        latents_in.bias[c] = 0.5
        for conv in doublings:
            conv.weight[c, c] = torch.outer(row, row)
        colours_out.weight[c, c, 1, 1] = 1.0
