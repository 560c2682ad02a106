"""A trained concept on a MODEL: its weight change as patches, and what its method adds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import comfy.lora

from ....attndb.artifacts.concept import TrainedConcept
from ....attndb.artifacts.lineage import Lineage, check_not_another, lineage
from ....attndb.artifacts.weight_file import host_keys
from .added_parts import added_on, with_added, without_added
from .families import check_sampling, family
from .patch_entries import entries_without_concept, lineages
from .weights import UNET_PREFIX, weight_shapes


class ConceptPatch(tuple):
    """A `("diff", (tensor,))` patch that can remember which concept it belongs to."""

    attndb_lineage: Lineage


def concept_patches(concept: TrainedConcept) -> dict[str, Any]:
    """The concept's weight change as the stock LoRA loader would patch it, by model key; every
    patch remembers the concept's lineage."""
    paths = {UNET_PREFIX + name.rpartition(".")[0] for name in concept.delta}
    keys = {path: f"{path}.weight" for path in paths}
    patches = comfy.lora.load_lora(host_keys(concept.delta), keys, log_missing=False)
    marked, mark = {}, lineage(concept)
    for key, patch in patches.items():
        marked[key] = ConceptPatch(patch) if isinstance(patch, tuple) else patch
        marked[key].attndb_lineage = mark
    return marked


def concepts_on(model: Any) -> list[Lineage]:
    """The concepts on a MODEL; also those of a MODEL that was merged into it."""
    patches = getattr(model, "patches", {})
    every = [mark for entries in patches.values() for mark in lineages(entries)]
    return list(dict.fromkeys([*every, *added_on(model)]))


def without_concept(model: Any, placeholder: str) -> Any:
    """A clone of MODEL without this concept, or MODEL itself where it is not on it."""
    if not any(mark.same_word(placeholder) for mark in concepts_on(model)):
        return model
    clone = without_added(model, placeholder)
    kept = {k: entries_without_concept(e, placeholder) for k, e in clone.patches.items()}
    clone.patches = {key: entries for key, entries in kept.items() if entries}
    clone.add_patches({})  # a new identity, so that the host merges anew
    return clone


def apply_to_model(
    model: Any,
    concept: TrainedConcept,
    strength: float,
    reference: Mapping[str, Any] | None = None,
) -> Any:
    """A clone of MODEL with the concept's weight change added, times `strength`; what its method
    adds besides goes that share of the way. `reference`: the LATENT of a photo, where the concept
    looks at one.

    Another stage of the same concept on the MODEL is replaced, not added to. ValueError if the
    change does not fit the model, or if another concept has the placeholder there.
    """
    check_strength(strength)
    check_fits(model, concept)
    model = without_concept(model, concept.placeholder)
    if strength != 0 and concept.modules:
        added = (concept.vectors, concept.modules, strength, reference)
        model = with_added(model, lineage(concept), *added)
    if strength == 0 or not concept.delta:
        return model.clone()
    clone = model.clone()
    patches = concept_patches(concept)
    wanted = {UNET_PREFIX + name for name in concept.delta}
    missed = wanted - set(clone.add_patches(patches, strength))
    if missed:
        raise ValueError(f"the model took no patch for {', '.join(sorted(missed)[:5])}")
    return clone


def check_strength(strength: float) -> None:
    """ValueError if it is no number."""
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}: type a number, 1.0 for the concept as trained")


def check_fits(model: Any, concept: TrainedConcept, *, last: bool = False) -> None:
    """ValueError, with the true cause, if the concept was trained for another kind of model, for
    another model sampling, or if MODEL has another concept of the same placeholder. `last`: MODEL
    is the one that samples, see `check_sampling`."""
    theirs = family(model)
    shapes = weight_shapes(model, UNET_PREFIX)
    wrong = [
        name
        for name, delta in concept.delta.items()
        if shapes.get(UNET_PREFIX + name) != tuple(delta.shape)
    ]
    if theirs != concept.base_family:
        unfit = f" ({len(wrong)} of {len(concept.delta)} weights do not fit)" if wrong else ""
        raise ValueError(
            f"the concept {concept.placeholder} was trained for {concept.base_family}, and this "
            f"MODEL is {theirs}{unfit}: use a {concept.base_family} checkpoint, or train the "
            "concept on this one"
        )
    if wrong:
        first = shapes.get(UNET_PREFIX + wrong[0])
        has = f"has shape {first}" if first else "does not exist"
        raise ValueError(
            f"{len(wrong)} of {len(concept.delta)} weights of the concept {concept.placeholder} do "
            f"not fit this MODEL, although both are {theirs}: {wrong[0]} has shape "
            f"{tuple(concept.delta[wrong[0]].shape)} in the concept, and {has} in the MODEL. Use "
            "the checkpoint that the concept was trained on; if it is this one, the concept's file "
            "is damaged: restore it, or train the concept again"
        )
    check_sampling(model, concept.placeholder, concept.record, last=last)
    mine = lineage(concept)
    for other in concepts_on(model):
        check_not_another(other, mine, "MODEL")
