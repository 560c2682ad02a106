"""Guided samples of the micro model by the host's own sampler, many prompts at once."""

from typing import Any

import torch
from torch import Tensor

SAMPLER, SCHEDULER, STEPS, GUIDANCE = "dpmpp_2m", "normal", 20, 3.0


def condition(clip: Any, prompts: list[str]) -> list:
    """The host's CONDITIONING of several prompts, stacked along the batch."""
    encoded = [clip.encode_from_tokens(clip.tokenize(p), return_pooled=True) for p in prompts]
    states = torch.cat([state for state, _ in encoded])  # (B, 77, 192)
    pooled = torch.cat([vector for _, vector in encoded])
    return [[states, {"pooled_output": pooled}]]


def sample(
    model: Any,
    clip: Any,
    vae: Any,
    prompts: list[str],
    *,
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    sampler: str = SAMPLER,
    scheduler: str = SCHEDULER,
    batch: int = 50,
    side: int = 16,
) -> Tensor:
    """Pictures (N, H, W, 3) uint8 of N prompts: KSampler's own path, empty negative prompt.

    `side` is that of the latents, an eighth of the pictures'.
    """
    import comfy.sample

    pictures = []
    with torch.inference_mode():
        negative = condition(clip, [""])
        for start in range(0, len(prompts), batch):
            part = prompts[start : start + batch]
            empty = torch.zeros(len(part), vae.latent_channels, side, side)
            noise = comfy.sample.prepare_noise(empty, seed + start, None)
            latents = comfy.sample.sample(
                model,
                noise,
                steps,
                guidance,
                sampler,
                scheduler,
                condition(clip, part),
                negative,
                empty,
                disable_pbar=True,
                seed=seed + start,
            )
            images = vae.decode(latents).clamp(0, 1)  # (B, H, W, 3)
            pictures.append((images * 255).round().to(torch.uint8).cpu())
    return torch.cat(pictures)
