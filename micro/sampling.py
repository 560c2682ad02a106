"""Guided samples of the micro model by the host's own sampler, many prompts at once."""

from typing import Any

import torch
from torch import Tensor

SAMPLER, SCHEDULER, STEPS, GUIDANCE = "dpmpp_2m", "normal", 20, 3.0


def conditions(clip: Any, prompts: list[str]) -> list:
    """The host's CONDITIONING of several prompts, as *CLIP Text Encode* makes it: one of all,
    stacked along the batch, or one each where it says more than the text (a word that is made while
    drawing) or the prompts are of several lengths."""
    encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(p)) for p in prompts]
    alike = {tuple(states.shape) for [[states, _]] in encoded}
    if len(alike) > 1 or any(set(said) != {"pooled_output"} for [[_, said]] in encoded):
        return encoded
    states = torch.cat([states for [[states, _]] in encoded])  # (B, 77, 192)
    pooled = torch.cat([said["pooled_output"] for [[_, said]] in encoded])
    return [[[states, {"pooled_output": pooled}]]]


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
        [negative] = conditions(clip, [""])
        for start in range(0, len(prompts), batch):
            part = prompts[start : start + batch]
            empty = torch.zeros(len(part), vae.latent_channels, side, side)
            noise = comfy.sample.prepare_noise(empty, seed + start, None)
            positives = conditions(clip, part)
            each = len(part) // len(positives)
            latents = torch.cat(
                [
                    comfy.sample.sample(
                        model,
                        noise[i * each : (i + 1) * each],
                        steps,
                        guidance,
                        sampler,
                        scheduler,
                        positive,
                        negative,
                        empty[:each],
                        disable_pbar=True,
                        seed=seed + start,
                    )
                    for i, positive in enumerate(positives)
                ]
            )
            images = vae.decode(latents).clamp(0, 1)  # (B, H, W, 3)
            pictures.append((images * 255).round().to(torch.uint8).cpu())
    return torch.cat(pictures)
