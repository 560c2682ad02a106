"""Optimisers and schedules, made by libraries from an OptimizerConfig."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch

from ..config.optimizer import OptimizerConfig
from ..config.stage import StageConfig
from ..methods.method import ParameterGroup
from .adamw_in_backward import AdamWInBackward, has_fused_adamw

_PACKAGES = {
    "AdamW 8-bit": ("bitsandbytes.optim", "AdamW8bit", "bitsandbytes"),
    "Prodigy": ("prodigyopt", "Prodigy", "prodigyopt"),
    "AdamW schedule-free": ("schedulefree", "AdamWScheduleFree", "schedulefree"),
}


def create_optimizer(groups: Sequence[ParameterGroup], stage: StageConfig) -> torch.optim.Optimizer:
    """A stage's optimiser over what is trained. ValueError with the install line of a missing
    package."""
    config = stage.optimizer
    parameters = [
        {
            "params": list(group.parameters.values()),
            "lr": group.learning_rate or config.learning_rate,
        }
        for group in groups
    ]
    common: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "eps": config.eps,
        "weight_decay": config.weight_decay,
    }
    if stage.optimizer_in_backward:
        return AdamWInBackward(parameters, seed=stage.seed, **common)
    if config.name == "AdamW":
        fused = all(has_fused_adamw(p.device) for g in parameters for p in g["params"])
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
    from transformers import get_scheduler  # which also imports peft: half a second

    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=config.warmup_steps,
        num_training_steps=max(steps, config.warmup_steps + 1),
    )
