"""Prompts with a word that is another one at every timestep and layer (NeTI): the CLIP's side.

What CLIP encodes for such a prompt holds the word's plain vectors. Beside it, in the conditioning,
goes what is needed to encode it again while a sampler draws (mapped_words.py): the tokens, and
where in them which word stands.

Shapes: T tokens, D text width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management
from torch import Tensor

MAPPED = "attndb_mapped_text"
"""Key in a conditioning."""

Place = tuple[int, int]
"""Chunk of a prompt, and token in it."""


@dataclass(frozen=True, eq=False)
class MappedText:
    """A prompt as CLIP encoded it, and how to encode it with other vectors."""

    states: Tensor
    """(1, T, D), with the words' plain vectors."""
    chunks: tuple[tuple[tuple[Any, ...], ...], ...]
    """The host's tokens with their weights, by chunk."""
    words: Mapping[Place, str]
    """Where a mapped word stands, and the key of its concept's lineage."""
    patcher: Any
    """Of the CLIP that encoded it."""
    layer: tuple[Any, Any]
    """Which layer of the text encoder was read: the host's `layer` and `layer_idx`."""

    def __deepcopy__(self, _: object) -> MappedText:
        return self  # never changed, and nobody's but its own


def with_mapped_word(clip: Any, vectors: Tensor, key: str) -> Any:
    """A clone of CLIP that says in its conditionings where these very vectors stood in the prompt;
    `key`: of their concept's lineage. The text encoder itself stays as it is, on every wire."""
    clone = clip.clone()
    [plain, known] = getattr(clip.cond_stage_model, "attndb_mapped", (clip.cond_stage_model, {}))
    known = {**known, vectors.untyped_storage().data_ptr(): (key, vectors)}
    front = copy.copy(plain)  # shares all modules and weights
    front.attndb_mapped = _Kept((plain, known))
    patcher = clone.patcher

    def encode_token_weights(tokens: Mapping[str, Any]) -> tuple[Any, ...]:
        encoded = plain.encode_token_weights(tokens)
        chunks = tuple(tuple(chunk) for chunk in tokens[plain.clip_name])
        words = {
            (c, t): known[token[0].untyped_storage().data_ptr()][0]
            for c, chunk in enumerate(chunks)
            for t, token in enumerate(chunk)
            if isinstance(token[0], Tensor) and token[0].untyped_storage().data_ptr() in known
        }
        if not words:
            return encoded
        inner = getattr(plain, plain.clip)
        layer = (inner.layer, inner.layer_idx)
        mapped = MappedText(encoded[0], chunks, words, _in_use(plain, patcher), layer)
        return (*encoded[:2], {**(encoded[2] if len(encoded) > 2 else {}), MAPPED: mapped})

    front.encode_token_weights = encode_token_weights
    clone.cond_stage_model = front
    return clone


class _Kept(tuple):
    """In a tuple a module is no part of the module that holds it."""

    def __deepcopy__(self, _: object) -> _Kept:
        return self


def _in_use(module: Any, otherwise: Any) -> Any:
    """The patcher that the host has loaded a text encoder by: that of the CLIP that encodes now,
    with patches that came after the word."""
    loaded = comfy.model_management.loaded_models()
    return next((p for p in loaded if getattr(p, "model", None) is module), otherwise)
