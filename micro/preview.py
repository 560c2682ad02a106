"""Pictures of the model in training: DDIM with guidance, without the host's sampler."""

import copy
import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from .autoencoder import LATENT_CHANNELS, Autoencoder
from .stock import to_pictures
from .text import LENGTH
from .train_diffusion import DiffusionTrainer


@torch.no_grad()
def preview(
    trainer: DiffusionTrainer,
    autoencoder: Autoencoder,
    prompts: list[str],
    *,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 3.0,
) -> NDArray[np.uint8]:
    """Pictures (N, 128, 128, 3) of the moving average, deterministic in the seed."""
    unet, text = copy.deepcopy(trainer.unet).eval(), copy.deepcopy(trainer.text).eval()
    values = trainer.averaged()
    for prefix, model in (("unet", unet), ("text", text)):
        for name, parameter in model.named_parameters(prefix=prefix):
            parameter.copy_(values[name])
    device, abar = trainer.device, trainer.abar
    n = len(prompts)
    rows = trainer.captions([*prompts, *([""] * n)])[:, :LENGTH].to(device)
    context = text(rows)
    noise = torch.randn(
        n, LATENT_CHANNELS, 16, 16, generator=torch.Generator().manual_seed(seed)
    ).to(device)
    z = noise
    times = np.linspace(len(abar) - 1, 0, steps + 1).round().astype(int)
    for now, then in itertools.pairwise(times):
        t = torch.full((2 * n,), int(now), device=device)
        told, empty = unet(torch.cat([z, z]), t, context=context).chunk(2)
        velocity = empty + guidance * (told - empty)
        a, b = abar[now], abar[then] if then > 0 else abar.new_tensor(1.0)
        z0 = a.sqrt() * z - (1 - a).sqrt() * velocity
        eps = (1 - a).sqrt() * z + a.sqrt() * velocity
        z = b.sqrt() * z0 + (1 - b).sqrt() * eps
    return to_pictures(autoencoder.to(device).decode(z))
