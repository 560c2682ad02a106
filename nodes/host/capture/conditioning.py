"""Finds a prompt among the conditionings that a guider samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..model.text_distance import text_distance

_SAME_TEXT = 1e-3
_NEARLY = 0.1


@dataclass(frozen=True)
class PromptPlace:
    """Where a prompt stands in one conditioning."""

    first_column: int
    """Its first token on the key axis; not 0 in concatenated conditionings."""
    length: int
    """Tokens of the whole conditioning."""
    text: Tensor
    """The conditioning, (B, T, C)."""


def find_prompt(
    guider: Any, references: Sequence[Tensor], columns: int
) -> tuple[dict[Any, PromptPlace], bool]:
    """The conditionings that hold the prompt, by uuid, and whether any was recognised.

    `references` are the prompt encoded, (1, T, C). Positive conditionings come before others and
    negative ones last; if none holds it, the positive ones with at least `columns` tokens are
    given.
    """
    conds: dict[str, list[dict[str, Any]]] = getattr(guider, "conds", {})
    for name in sorted(conds, key=lambda name: (name == "negative", name != "positive")):
        found = {}
        for cond in conds[name]:
            text = cond.get("cross_attn")
            if text is not None and (place := place_in(text, references)) is not None:
                found[cond["uuid"]] = PromptPlace(place, text.shape[1], text)
        if found:
            return found, True
    positive = conds.get("positive") or next(iter(conds.values()), [])
    texts = {cond["uuid"]: cond.get("cross_attn") for cond in positive}
    return {
        ident: PromptPlace(0, text.shape[1], text)
        for ident, text in texts.items()
        if text is not None and text.shape[1] >= columns
    }, False


def place_in(text: Tensor, references: Sequence[Tensor]) -> int | None:
    """Column at which one of the references begins in a conditioning; None if it has none."""
    for reference in references:
        length = reference.shape[1]
        if text.shape[-1] != reference.shape[-1]:
            continue
        for start in _begins(text, reference):
            if text_distance(text[:1, start : start + length], reference) < _SAME_TEXT:
                return start
    return None


def _begins(text: Tensor, reference: Tensor) -> list[int]:
    """Columns of a conditioning with nearly the state that a reference begins with. Concatenated
    ones hold whole prompts, of CLIP in chunks of one length, of T5 of any."""
    last = text.shape[1] - reference.shape[1] + 1
    first = reference[0, 0].to(text.device).float()
    gaps = (text[0, : max(last, 0)].float() - first).norm(dim=-1)
    return (gaps < _NEARLY * first.norm().clamp(min=1e-12)).nonzero().flatten().tolist()


def area_of(guider: Any, ident: Any) -> tuple[int, int, int, int] | None:
    """Height, width, top and left of a regional prompt in latent pixels, once sampling began."""
    for conds in getattr(guider, "conds", {}).values():
        for cond in conds:
            if cond.get("uuid") == ident and cond.get("area") is not None:
                height, width, top, left = cond["area"]
                return int(height), int(width), int(top), int(left)
    return None
