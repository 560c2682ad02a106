"""Whether a training may start from what is on its wires."""

from __future__ import annotations

from typing import Any

from ....attndb.artifacts.concept import TrainedConcept
from ....attndb.data.continuation import check_same_subject
from ....attndb.data.dataset import ConceptDataset
from .concept_patches import concepts_on
from .placeholders import known_placeholders


def check_start(
    model: Any,
    clip: Any,
    dataset: ConceptDataset,
    concept: TrainedConcept | None,
    vectors: int | None = None,
) -> None:
    """ValueError if the dataset and the concept so far are not of one subject, or if a training
    from nothing finds its placeholder taken by a concept on MODEL or CLIP.

    vectors: what was asked for; None: nothing.
    """
    if concept is not None:
        check_same_subject(dataset, concept, vectors)
        return
    on_clip = [known.lineage for known in known_placeholders(clip).values()]
    for part, owners in (("CLIP", on_clip), ("MODEL", concepts_on(model))):
        for owner in owners:
            if owner is not None and owner.same_word(dataset.placeholder):
                raise ValueError(
                    f"{part} already has the concept {owner.label}, and no concept is connected: "
                    f"connect that concept to go on from it, or the {part} from the checkpoint "
                    "loader (or another placeholder in the dataset node) to begin anew"
                )
