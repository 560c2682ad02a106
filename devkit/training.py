"""Trainings of one stage, as the session makes them; a tensor of vectors: of the only encoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..attndb.config.stage import StageConfig
from ..attndb.losses.totals import LossTotals
from ..attndb.methods.registry import method_of
from ..attndb.models.conditioning import Conditioning, Embeddings
from ..attndb.training.trainer import train
from ..attndb.training.training import StageResult, Training


def start(vectors: Tensor | Embeddings) -> Embeddings:
    """Vectors as a model takes them."""
    return {"clip_l": vectors} if isinstance(vectors, Tensor) else vectors


def training_of(model: Any, config: StageConfig, vectors: Tensor | Embeddings) -> Training:
    """A training that is not entered yet."""
    return Training(model, method_of(config), start(vectors))


def train_stage(
    model: Any,
    batches: Any,
    config: StageConfig,
    vectors: Tensor | Embeddings,
    callback: Any = None,
    run: Any = None,
) -> StageResult:
    """A whole training of the method that the settings name."""
    return train(model, method_of(config), batches, start(vectors), callback, run)


def losses_of(training: Training, batch: Any) -> dict[str, Tensor]:
    """The shares of a whole batch's loss."""
    return training.learner.losses(batch, LossTotals.of(batch))


def parameters_of(training: Training) -> dict[str, nn.Parameter]:
    """Everything that is trained, by name."""
    return {n: p for group in training.learner.groups for n, p in group.parameters.items()}


def context_of(model: Any, prompt: Any, vectors: Tensor) -> Tensor:
    """Text states (1, T, D) of one prompt."""
    [name] = model.text_encoders
    return model.encode_text(prompt, {name: vectors}).text[name]


def initial_vectors(model: Any, token_ids: tuple[int, ...], count: int = 1) -> Tensor:
    """Vectors (V, D) that the placeholder starts from."""
    [vectors] = model.initial_embeddings(token_ids, count).values()
    return vectors


def denoised(model: Any, z_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
    """The denoiser's output for these text states."""
    return model.denoise(z_t, t, Conditioning({"clip_l": context}))
