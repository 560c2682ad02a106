"""A trained concept's weight change as patches on a MODEL."""

from __future__ import annotations

from typing import Any

import comfy.lora

from ....attndb.artifacts.concept import TrainedConcept, weight_file_keys
from .families import family

UNET_PREFIX = "diffusion_model."


class ConceptPatch(tuple):
    """A `("diff", (tensor,))` patch that can remember which concept it belongs to."""

    placeholder: str


def concept_patches(concept: TrainedConcept) -> dict[str, Any]:
    """The concept's weight change as the stock LoRA loader would patch it, by model key; every
    patch remembers the concept's placeholder."""
    paths = {UNET_PREFIX + name.rpartition(".")[0] for name in concept.delta}
    keys = {path: f"{path}.weight" for path in paths}
    patches = comfy.lora.load_lora(weight_file_keys(concept.delta), keys, log_missing=False)
    marked = {}
    for key, patch in patches.items():
        marked[key] = ConceptPatch(patch) if isinstance(patch, tuple) else patch
        marked[key].placeholder = concept.placeholder
    return marked


def is_concept_patch(entry: Any, placeholder: str) -> bool:
    """Whether a patcher's patch entry (strength, patch, ...) was put there for this placeholder."""
    return getattr(entry[1], "placeholder", None) == placeholder


def without_concept(model: Any, placeholder: str) -> Any:
    """A clone of MODEL without this concept's patches, or MODEL itself where there are none."""
    if not any(
        is_concept_patch(e, placeholder) for entries in model.patches.values() for e in entries
    ):
        return model
    clone = model.clone()
    kept: dict[str, list[Any]] = {}
    for key, entries in clone.patches.items():
        rest = [entry for entry in entries if not is_concept_patch(entry, placeholder)]
        if rest:
            kept[key] = rest
    clone.patches = kept
    clone.add_patches({})  # a new identity, so that the host merges anew
    return clone


def apply_to_model(model: Any, concept: TrainedConcept, strength: float) -> Any:
    """A clone of MODEL with the concept's weight change added, times `strength`.

    An earlier version of the same concept on the MODEL is replaced, not added to. ValueError if
    the change does not fit the model.
    """
    check_fits(model, concept)
    model = without_concept(model, concept.placeholder)
    if strength == 0 or not concept.delta:
        return model.clone()
    clone = model.clone()
    patches = concept_patches(concept)
    wanted = {UNET_PREFIX + name for name in concept.delta}
    missed = wanted - set(clone.add_patches(patches, strength))
    if missed:
        raise ValueError(f"the model took no patch for {', '.join(sorted(missed)[:5])}")
    return clone


def check_fits(model: Any, concept: TrainedConcept) -> None:
    """ValueError, with both families, if the concept was trained for another kind of model."""
    shapes = {name: tuple(w.shape) for name, w in model.model.state_dict().items()}
    wrong = [
        name
        for name, delta in concept.delta.items()
        if shapes.get(UNET_PREFIX + name) != tuple(delta.shape)
    ]
    theirs = family(model)
    if wrong or theirs != concept.base_family:
        raise ValueError(
            f"the concept {concept.placeholder} was trained for {concept.base_family}, and this "
            f"MODEL is {theirs} ({len(wrong)} of {len(concept.delta)} weights do not fit): use a "
            f"{concept.base_family} checkpoint, or train the concept on this one"
        )
