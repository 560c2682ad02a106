"""run_stage: one training stage from the host's wires to a trained concept."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from ...attndb.batches import PhotoBatches
from ...attndb.concept import TrainedConcept
from ...attndb.config import CategoryTie, StageConfig
from ...attndb.dataset import ConceptDataset
from ...attndb.tokens import CategoryWord, TokenizedPrompt
from ...attndb.trainer import StepLoss, train_stage
from .backend import HostBackend, host_backend, training_mode
from .compat import versions
from .families import check_trainable, family
from .images import thumbnail_url
from .patches import apply_to_clip, check_fits, inner_name
from .progress import TrainingProgress
from .text import tokenize_training_prompt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wires:
    """What comes in over a stage node's wires."""

    model: Any
    clip: Any
    vae: Any
    dataset: ConceptDataset
    tie: CategoryTie = "last word"


def run_stage(
    wires: Wires, config: StageConfig, concept: TrainedConcept | None, title: str
) -> tuple[TrainedConcept, tuple[StepLoss, ...]]:
    """Trains one stage on private copies and returns the concept it makes; the wires stay as is.

    Without a concept (a skipped stage, legal as an ablation) the placeholder starts from the
    category's embedding, and the log says so.
    """
    check_trainable(wires.model, wires.clip, wires.vae)
    if concept is not None:
        check_continues(wires, concept)
    count = config.vectors if concept is None else concept.vectors.shape[0]
    prompt, category = tokenize_training_prompt(wires.clip, wires.dataset, count, wires.tie)
    log.info(
        "%s: prompt %r; the placeholder's map is tied to token %d of %r (id %d)",
        title,
        prompt.text,
        category.tied_offset + 1,
        category.text,
        category.ids[category.tied_offset],
    )
    with training_mode():
        delta = {} if concept is None else concept.delta
        placeholder = wires.dataset.placeholder
        backend, digest = host_backend(wires.model, wires.clip, wires.vae, delta, placeholder)
        if concept is None:
            concept = _new_concept(wires, backend, prompt, category, config, digest)
            if config.trains != "embedding":
                log.warning(
                    "%s: no concept connected; the placeholder starts from the untrained "
                    "embedding of %r (an ablation of the method)",
                    title,
                    category.text,
                )
        batches = PhotoBatches(
            wires.dataset, prompt, config, backend.diffusion, backend.encode_image
        )
        progress = TrainingProgress(title, config.steps)
        result = train_stage(backend, batches, config, concept.vectors, progress)
        del backend, batches
    dtype = torch.float32 if _base_dtype(wires.model) == torch.float32 else torch.float16
    delta = {name: value.to(dtype) for name, value in result.delta.items()}
    return concept.grown(result.vectors, delta, _stage_record(config, result.losses)), (
        result.losses
    )


def check_continues(wires: Wires, concept: TrainedConcept) -> None:
    """ValueError if the concept belongs to another base or another placeholder."""
    check_fits(wires.model, concept)
    apply_to_clip(wires.clip, concept)
    if concept.placeholder != wires.dataset.placeholder:
        raise ValueError(
            f"the concept is for the placeholder {concept.placeholder!r}, and the dataset says "
            f"{wires.dataset.placeholder!r}: type the same one in the dataset node"
        )


def _new_concept(
    wires: Wires,
    backend: HostBackend,
    prompt: TokenizedPrompt,
    category: CategoryWord,
    config: StageConfig,
    digest: str,
) -> TrainedConcept:
    dataset = wires.dataset
    return TrainedConcept(
        placeholder=dataset.placeholder,
        category=dataset.category,
        text_key=inner_name(wires.clip.tokenizer),
        vectors=backend.initial_vectors(category.initial_ids, config.vectors),
        base_family=family(wires.model),
        record={
            "base_sha256": digest,
            "prompt": prompt.text,
            "tie": category.tie,
            "tied_token_id": category.ids[category.tied_offset],
            "photos": [{"name": p.name, "sha256": p.digest} for p in dataset.photos],
            "thumbnail": thumbnail_url(dataset.photos[0].image),
            "versions": versions(),
            "stages": [],
        },
    )


def _stage_record(config: StageConfig, losses: tuple[StepLoss, ...]) -> dict[str, Any]:
    return {
        **config.as_dict(),
        "losses": [[loss.denoising, loss.regularization] for loss in losses],
    }


def _base_dtype(model: Any) -> torch.dtype:
    return model.model.get_dtype()
