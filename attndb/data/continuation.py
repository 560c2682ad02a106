"""Whether a dataset goes on with the concept that an earlier stage made."""

from __future__ import annotations

from ..artifacts.concept import TrainedConcept
from ..config.words import word_key
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
    check_same_category(dataset.category, concept.placeholder, concept.category)
    has = concept.vectors.shape[0]
    if vectors is not None and vectors != has:
        raise ValueError(
            f"vectors is {vectors}, and the connected concept {concept.placeholder} has {has}: set "
            f"vectors to {has}, or disconnect the concept to begin anew with {vectors}"
        )


def check_same_category(ours: str, placeholder: str, theirs: str) -> None:
    """ValueError if the dataset's category is another than that of the concept of this name."""
    if _plain(ours) != _plain(theirs):
        raise ValueError(
            f"category is {ours!r} in the dataset, and the concept {placeholder} was begun as "
            f"{theirs!r}: type {theirs!r} in the dataset node, or train from stage 1 with the new "
            "category"
        )


def check_same_placeholder(ours: str, theirs: str) -> None:
    """ValueError if the dataset's placeholder is another than the concept's."""
    if word_key(ours) != word_key(theirs):
        raise ValueError(
            f"the concept is for the placeholder {theirs!r}, and the dataset says {ours!r}: type "
            "the same one in the dataset node"
        )


def _plain(words: str) -> str:
    """As CLIP reads words: whatever the spaces, too."""
    return " ".join(word_key(words).split())
