"""A concept's vectors in CLIP's tokenizer: prompts that know the placeholder."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ....attndb.artifacts.concept import TrainedConcept


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
