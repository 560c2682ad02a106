"""A step of a training that is held to its base: where it went, from what, and its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attndreambooth.attndb.training.step_loss import StepLoss
from attndreambooth.devkit.tiny_model import tiny_model
from attndreambooth.devkit.training import parameters_of, training_of

from .gradients import at_step, gradient
from .prior import VECTORS, batch_of, stage


def touched_model(changed: bool = False, kind: Any = "epsilon", levels: int = 1) -> Any:
    """The tiny model; `changed`: as a concept leaves it, which has touched some weights."""
    backend = tiny_model(kind, levels=levels)
    if changed:
        for name, weight in backend.unet.named_parameters():
            if name.endswith(("attn2.to_k.weight", "norm1.bias")):
                backend.base_weights[name] = weight.detach() - 0.1 * torch.ones_like(weight)
        assert backend.base_weights
    return backend


def wander(training: Any) -> None:
    """The weights somewhere else than where they began."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters_of(training).values():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


@dataclass
class StepAway:
    """A step away from the start, by the names of what is trained."""

    gradients: dict[str, Tensor]
    loss: StepLoss
    values: dict[str, Tensor]
    began: dict[str, Tensor]
    """Every weight as the training found it."""
    base: dict[str, Tensor]
    """Every weight of the base."""


def step_away(
    number: int, changed: bool = False, kind: Any = "epsilon", **changes: Any
) -> StepAway:
    """One step of a stage with prior samples, of a model that has wandered."""
    backend, taken = touched_model(changed, kind), {}
    began = {n: p.detach().clone() for n, p in backend.unet.named_parameters()}
    base = {**began, **backend.base_weights}
    with training_of(backend, stage(number, **changes), VECTORS) as training:
        wander(training)
        at_step(
            training,
            lambda: taken.update(
                {name: gradient(p).clone() for name, p in parameters_of(training).items()}
            ),
        )
        loss = training.step(0, batch_of(size=6, prior=5)).read()
        values = {n: p.detach().clone() for n, p in parameters_of(training).items()}
        return StepAway(taken, loss, values, began, base)
