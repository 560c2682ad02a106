"""Whether a dataset goes on with the concept that an earlier stage made."""

from __future__ import annotations

from ..artifacts.concept import TrainedConcept
from .dataset import ConceptDataset


def check_same_subject(
    dataset: ConceptDataset, concept: TrainedConcept, vectors: int | None = None
) -> None:
    """ValueError if the dataset says another category than the concept was begun with, or if
    another number of vectors is asked for; None: as many as the concept has. Nothing goes on from a
    concept that is more than vectors and weights."""
    if concept.modules:
        stages = concept.record.get("stages") or [{}]
        raise ValueError(
            f"the concept {concept.placeholder} was trained by {stages[-1].get('method')}, which "
            "adds to the model what no other training has: no stage goes on from it. Disconnect "
            "it, or connect a concept of another method"
        )
    if _plain(dataset.category) != _plain(concept.category):
        raise ValueError(
            f"category is {dataset.category!r} in the dataset, and the concept "
            f"{concept.placeholder} was begun as {concept.category!r}: type "
            f"{concept.category!r} in the dataset node, or train from stage 1 with the new category"
        )
    has = concept.vectors.shape[0]
    if vectors is not None and vectors != has:
        raise ValueError(
            f"vectors is {vectors}, and the connected concept {concept.placeholder} has {has}: set "
            f"vectors to {has}, or disconnect the concept to begin anew with {vectors}"
        )


def _plain(words: str) -> str:
    """As CLIP reads words: without case, and whatever the spaces."""
    return " ".join(words.casefold().split())
