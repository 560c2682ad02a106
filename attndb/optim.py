"""Optimisers, schedules and averages, made by libraries from an OptimizerConfig."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from transformers import get_scheduler

from .config import OptimizerConfig, StageConfig
from .streamed import StreamedAdamW

_PACKAGES = {
    "AdamW 8-bit": ("bitsandbytes.optim", "AdamW8bit", "bitsandbytes"),
    "Prodigy": ("prodigyopt", "Prodigy", "prodigyopt"),
    "AdamW schedule-free": ("schedulefree", "AdamWScheduleFree", "schedulefree"),
}


def create_optimizer(
    parameters: Sequence[nn.Parameter], stage: StageConfig
) -> torch.optim.Optimizer:
    """A stage's optimiser over the parameters. ValueError with the install line of a missing
    package."""
    config = stage.optimizer
    common: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "eps": config.eps,
        "weight_decay": config.weight_decay,
    }
    if stage.streams:
        return StreamedAdamW(parameters, seed=stage.seed, **common)
    if config.name == "AdamW":
        fused = all(p.device.type in ("cuda", "cpu") for p in parameters)
        return torch.optim.AdamW(parameters, fused=fused, **common)
    module, factory, package = _PACKAGES[config.name]
    try:
        made = getattr(import_module(module), factory)
    except ImportError as error:
        raise ValueError(
            f"optimizer {config.name!r} needs the package {package}: install it into ComfyUI's "
            f"Python with 'python -m pip install {package}', or choose AdamW"
        ) from error
    optimizer = made(parameters, **common)
    if hasattr(optimizer, "train"):  # schedule-free keeps two sets of weights
        optimizer.train()
    return optimizer


def create_schedule(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The course of the rate over `steps`; None for the published constant rate."""
    if config.schedule == "constant" and config.warmup_steps == 0:
        return None
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=config.warmup_steps,
        num_training_steps=max(steps, config.warmup_steps + 1),
    )


class Average:
    """An exponential moving average of parameters (torch.optim.swa_utils), in fp32."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._update = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
        self.values: list[Tensor] = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters of this moment in."""
        self._update(self.values, [p.detach() for p in self._parameters], 0)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Puts the average in the place of the parameters."""
        for parameter, value in zip(self._parameters, self.values, strict=True):
            parameter.copy_(value)
