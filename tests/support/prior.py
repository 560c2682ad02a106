"""Stages, batches with prior samples and gradients over the tiny model."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.batch import Batch
from attndreambooth.attndb.data.tokens import TokenizedText
from attndreambooth.attndb.training.step_loss import StepLoss
from attndreambooth.devkit.tiny_model import (
    DOLL,
    END,
    PHOTO_OF,
    START,
    random_batch,
    tiny_model,
)
from attndreambooth.devkit.training import parameters_of, training_of

from .gradients import at_step, gradient

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
CLASS = TokenizedText("a photo of a doll", (START, *PHOTO_OF, DOLL, *[END] * 71))
WEIGHT = 0.7


def stage(number: int, **changes: Any) -> StageConfig:
    """A stage of three steps with a strong regulariser."""
    shared: dict[str, Any] = {
        "stage": number,
        "steps": 3,
        "batch_size": 4,
        "optimizer": OptimizerConfig(learning_rate=1e-3),
        "regularization": Regularization(mean_weight=200.0, variance_weight=2000.0),
        "precision": "fp32",
    }
    return StageConfig(**{**shared, **changes})


def batch_of(
    size: int = 4, prior: int = 4, seed: int = 0, weight: float = WEIGHT, masked: bool = True
) -> Batch:
    """A batch of the subject, with prior samples next to it."""
    theirs = random_batch(prior, seed=seed + 500, prompts=[CLASS]) if prior else None
    own = random_batch(size, seed=seed, masked=masked)
    return dataclasses.replace(own, prior=theirs, prior_weight=weight)


class Batches:
    """Step s has a batch of its own."""

    def __init__(self, prior: int = 4) -> None:
        self._prior = prior

    def __getitem__(self, step: int) -> Batch:
        return batch_of(prior=self._prior, seed=step)


def gradient_of(
    number: int, batch: Batch, kind: str = "epsilon", levels: int = 1, **changes: Any
) -> tuple[dict[str, Tensor], StepLoss]:
    """Gradient of one step by parameter, where the optimiser would use it; the step's loss."""
    backend = tiny_model(kind, levels=levels)
    taken: dict[str, Tensor] = {}
    with training_of(backend, stage(number, **changes), VECTORS) as training:
        at_step(
            training,
            lambda: taken.update(
                {name: gradient(p).clone() for name, p in parameters_of(training).items()}
            ),
        )
        loss = training.step(0, batch).read()
    return taken, loss
