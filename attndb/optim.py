"""Optimisers, made by libraries from an OptimizerConfig."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from .config import OptimizerConfig


def create_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """AdamW over the parameters; PyTorch's fused kernel where the device has one."""
    parameters = list(parameters)
    fused = all(p.device.type in ("cuda", "cpu") and p.is_floating_point() for p in parameters)
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=fused,
    )
