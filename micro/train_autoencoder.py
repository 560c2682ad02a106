"""Step one of the training: the micro VAE, on pictures of the world alone."""

import logging
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .autoencoder import MicroAutoencoder, to_model_range

log = logging.getLogger(__name__)

LATENT_NOISE = 0.15  # added to latents, so that the decoder forgives the sampler's small errors


def _batch(pictures: np.ndarray, index: np.ndarray, device: torch.device) -> Tensor:
    x = to_model_range(torch.from_numpy(pictures[np.sort(index)]).to(device))
    return x.contiguous(memory_format=torch.channels_last)


def new_autoencoder(pictures: np.ndarray, seed: int = 0) -> MicroAutoencoder:
    """The encoder in its final form and the decoder at its linear start."""
    torch.manual_seed(seed)
    model = MicroAutoencoder()
    model.start_from_components(_batch(pictures, np.arange(4000), torch.device("cpu")))
    return model


@torch.no_grad()
def encode_all(model: MicroAutoencoder, pictures: np.ndarray, device: torch.device) -> Tensor:
    """(N, C, 8, 8) bf16 latents of all pictures."""
    parts = []
    for start in range(0, len(pictures), 500):
        index = np.arange(start, min(start + 500, len(pictures)))
        parts.append(model.encode(_batch(pictures, index, device)).bfloat16().cpu())
    return torch.cat(parts)


def train_decoder(
    model: MicroAutoencoder,
    pictures: np.ndarray,
    *,
    minutes: float,
    seed: int = 0,
    batch: int = 24,
    rate: float = 2e-3,
) -> None:
    """Train the decoder only, in place; the rate decays to zero as the time budget runs out."""
    device = next(model.parameters()).device
    rng = np.random.default_rng(seed)
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    model.to(memory_format=torch.channels_last)
    parameters = list(model.decoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-4)
    start, step, used = time.monotonic(), 0, 0.0
    while used < 1:
        used = (time.monotonic() - start) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * min(1, 1.5 * max(1 - used, 0.0)) + 1e-6
        x = _batch(pictures, rng.integers(len(pictures), size=batch), device)
        z = model.encode(x)
        noise = LATENT_NOISE * torch.rand(batch, 1, 1, 1, device=device) * torch.randn_like(z)
        with torch.autocast(device.type, torch.bfloat16):
            y = F.pixel_shuffle(model.linear_out(z + noise).float(), 8) + model.decoder(z + noise)
        loss = F.l1_loss(y, x) + F.mse_loss(y, x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            error = F.mse_loss(y.detach(), x).item() / 4
            decibel = -10 * np.log10(error)
            log.info("decoder step %d: loss %.4f, %.1f dB", step, loss.item(), decibel)
        step += 1
    log.info("decoder: %d steps", step)
    model.requires_grad_(False)
