"""train_stage: one stage of AttnDreamBooth on a private model, kept safe by its run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from .backend import Backend
from .batches import BatchSource
from .config import StageConfig
from .losses import StepLoss, TrainingDivergedError
from .run import Run
from .stage import StageResult, StageTraining

__all__ = [
    "Observer",
    "StageResult",
    "StageTraining",
    "StepLoss",
    "TrainingDivergedError",
    "train_stage",
]

log = logging.getLogger(__name__)

Observer = Callable[[StepLoss, StageTraining], None]
"""Told of every finished step, with the training as it is then; may raise to stop it."""


def train_stage(
    backend: Backend,
    batches: BatchSource,
    config: StageConfig,
    vectors: Tensor,
    observer: Observer | None = None,
    run: Run | None = None,
) -> StageResult:
    """Trains one stage in place on the backend's private U-Net and returns what it learned.

    Stage 1 trains the vectors (V, D), stages 2 and 3 the U-Net. With a run, the training goes on
    where its checkpoint is, and whatever stops it (cancel, error) leaves a checkpoint; resumed, it
    gives the bytes of an uninterrupted one. On an error the U-Net is left as it was at that moment:
    it is private, and its owner drops it.
    """
    training = StageTraining(backend, config, vectors)
    losses = run.restore(training) if run is not None else []
    try:
        with training:
            while len(losses) < config.steps:
                step = len(losses)
                try:
                    loss = training.step(step, batches[step])
                except torch.OutOfMemoryError:
                    size = training.after_out_of_memory()
                    log.warning("step %d: out of memory; micro-batch is now %d", step + 1, size)
                    continue
                losses.append(loss)
                training.settled = True
                if run is not None:
                    run.after_step(training, losses)
                if observer is not None:
                    observer(loss, training)
            return training.result(losses)
    except BaseException:
        if run is not None:
            run.rescue(training, losses)
        raise
