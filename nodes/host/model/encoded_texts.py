"""Texts that are encoded again and again by a CLIP whose placeholder is in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class EncodedTexts:
    """CONDITIONING of texts, each encoded anew only when its tokens are others than before: the
    vectors of a placeholder that it holds, or the file of an embedding."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, list[Any]]] = {}

    def of(self, clip: Any, text: str) -> list[Any]:
        """By a CLIP whose text encoder is the one of all calls before. No vector that it knows may
        be one that something changes in place: it is compared with later ones."""
        tokens = clip.tokenize(text)
        known = self._known.get(text)
        if known is None or not _are_alike(known[0], tokens):
            known = self._known[text] = (tokens, clip.encode_from_tokens_scheduled(tokens))
        return known[1]


def _are_alike(one: Any, other: Any) -> bool:
    """Whether two of the host's tokenizations, or parts of them, are the same."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_are_alike(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_are_alike, one, other))
    return type(one) is type(other) and bool(one == other)
