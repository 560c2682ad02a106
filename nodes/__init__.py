"""The pack's nodes: each module lists its own in NODES."""

from __future__ import annotations

from typing import Any

from . import (
    attention,
    compare,
    compare_concepts,
    compared,
    concept,
    concept_hook,
    dataset,
    dataset_photos,
    dataset_preview,
    encoder,
    evaluate_concept,
    export,
    extraction,
    kept_concepts,
    mask,
    micro,
    options,
    preview,
    prior,
    prompt_set,
    regularization,
    score_images,
    stages,
    training_report,
)

MODULES = (
    dataset,
    mask,
    dataset_preview,
    dataset_photos,
    prior,
    regularization,
    options,
    preview,
    stages,
    compared,
    concept,
    kept_concepts,
    concept_hook,
    extraction,
    export,
    attention,
    compare,
    compare_concepts,
    prompt_set,
    encoder,
    evaluate_concept,
    score_images,
    training_report,
    micro,
)
"""In menu order."""


def all_nodes() -> list[Any]:
    """Every node class of the pack."""
    return [node for module in MODULES for node in module.NODES]
