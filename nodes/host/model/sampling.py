"""Pictures by the host's own sampler, as a KSampler node draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ....attndb.config.choices import require_choice
from ....attndb.config.drawing import check_drawing

SAMPLERS: list[str] = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS: list[str] = comfy.samplers.KSampler.SCHEDULERS


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How to draw. Published: dpmpp_2m, normal."""

    steps: int
    """Sampler steps."""
    cfg: float
    """Guidance."""
    width: int
    height: int
    """Size in pixels."""
    seed: int
    """Of the sampler's noise."""
    sampler_name: str = "dpmpp_2m"
    scheduler: str = "normal"

    def __post_init__(self) -> None:
        check_drawing(
            steps=self.steps, cfg=self.cfg, width=self.width, height=self.height, seed=self.seed
        )
        # the host takes its first one for a name that it does not know, and says nothing
        require_choice("sampler_name", self.sampler_name, tuple(SAMPLERS))
        require_choice("scheduler", self.scheduler, tuple(SCHEDULERS))


def sampled(
    model: Any,
    positive: Any,
    negative: Any,
    settings: SamplerSettings,
    done: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """The latent (1, C, Y, X) that MODEL draws from two CONDITIONINGs. `done` is told how many
    sampler steps are done, and may raise; the user's interrupt stops it within a step."""
    form = model.model.latent_format
    ratio = getattr(form, "spacial_downscale_ratio", 8)
    size = (settings.height // ratio, settings.width // ratio)
    latent = torch.zeros(1, form.latent_channels, *size)

    def after(step: int, *_: Any) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        done(step + 1)

    return comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(latent, settings.seed),
        settings.steps,
        settings.cfg,
        settings.sampler_name,
        settings.scheduler,
        positive,
        negative,
        latent,
        callback=after,
        disable_pbar=True,
        seed=settings.seed,
    )
