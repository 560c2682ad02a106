"""A trained concept on the wires: weights as patches on MODEL, vectors in CLIP's tokenizer."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import comfy.lora
from torch import Tensor

from ...attndb.concept import TrainedConcept, weight_file_keys
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


def apply_to_clip(clip: Any, concept: TrainedConcept) -> Any:
    """A clone of CLIP whose prompts know the concept's placeholder."""
    key = inner_name(clip.tokenizer)
    model = clip.cond_stage_model
    table = getattr(model, inner_name(model)).transformer.get_input_embeddings().weight
    if concept.text_key != key or concept.vectors.shape[1] != table.shape[1]:
        raise ValueError(
            f"the concept {concept.placeholder} was trained for {concept.base_family} "
            f"({concept.text_key}, width {concept.vectors.shape[1]}), and this CLIP is "
            f"{key}, width {table.shape[1]}: use the CLIP of a {concept.base_family} checkpoint"
        )
    return with_vectors(clip, concept.placeholder, concept.vectors)


def inner_name(holder: Any) -> str:
    """The attribute of a host tokenizer or text model that holds its only CLIP, e.g. `clip_l`."""
    return str(holder.clip)


def with_vectors(clip: Any, placeholder: str, vectors: Tensor) -> Any:
    """A clone of CLIP in whose prompts `placeholder` stands for these vectors.

    The host's own way for embeddings is used (`embedding:name` in a prompt), with the vectors in
    memory instead of in a file. CLIP and its tokenizer stay as they are; placeholders that were
    added before stay known.
    """
    clone = clip.clone()
    key = inner_name(clip.tokenizer)
    outer, inner = copy.copy(clip.tokenizer), copy.copy(getattr(clip.tokenizer, key))
    known: dict[str, Tensor] = {**getattr(outer, "attndb_known", {}), placeholder: vectors}
    if inner.embedding_directory is None:
        inner.embedding_directory = []
    file_lookup = type(inner)._try_get_embedding.__get__(inner)
    inner._try_get_embedding = _lookup(known, file_lookup)
    setattr(outer, key, inner)
    outer.attndb_known = known
    plain = type(outer).tokenize_with_weights.__get__(outer)
    outer.tokenize_with_weights = lambda text, *args, **kwargs: plain(
        spell_out(text, known), *args, **kwargs
    )
    clone.tokenizer = outer
    return clone


def _memory_name(placeholder: str) -> str:
    """The embedding name that stands for a placeholder inside a prompt; no prompt syntax in it."""
    return "attndb-" + placeholder.encode().hex()


def _lookup(known: Mapping[str, Tensor], file_lookup: Any) -> Any:
    in_memory = {_memory_name(placeholder): vectors for placeholder, vectors in known.items()}

    def try_get_embedding(name: str) -> tuple[Any, str, str]:
        first, *rest = name.split()
        vectors = in_memory.get(first)
        if vectors is None:
            return file_lookup(name)
        return vectors, first, " ".join(rest)

    return try_get_embedding


def spell_out(text: str, known: Mapping[str, Tensor]) -> str:
    """The prompt with every known placeholder written as the host's embedding syntax.

    Longer placeholders first, and a placeholder of letters only where it stands alone.
    """
    if not known:
        return text
    choices = sorted(known, key=len, reverse=True)
    pattern = "|".join(
        rf"(?<![\w-]){re.escape(word)}(?![\w-])" if word[0].isalnum() else re.escape(word)
        for word in choices
    )
    return re.sub(pattern, lambda match: f" embedding:{_memory_name(match[0])} ", text)
