"""What tells one concept, with all its stages, from another that has the same placeholder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ..config.words import word_key
from .concept import TrainedConcept
from .digest import tensors_digest

_SAME_START = ("base_sha256", "prompt", "tied_token_id")
_PHOTOS_NAMED = 3
KEPT = "lineage"
"""In a record from which what the key is made of was taken: the key itself."""


@dataclass(frozen=True)
class Lineage:
    """A concept's placeholder and beginning: the same for every stage that goes on from it."""

    placeholder: str
    key: str
    """SHA-256 of how it began: base, prompt, photos and first stage."""
    label: str
    """How an error names the concept."""

    def same_word(self, placeholder: str) -> bool:
        """Whether prompts cannot tell the placeholders apart."""
        return word_key(self.placeholder) == word_key(placeholder)

    def is_same(self, other: Lineage) -> bool:
        """Whether the other is the same concept, at whatever stage. One embedding of another
        program's may have been imported under several placeholders, each with a LoRA of its own:
        these are several."""
        return self.same_word(other.placeholder) and self.key == other.key

    def is_another(self, other: Lineage) -> bool:
        """Whether the other stands under the same placeholder and is not the same concept."""
        return self.same_word(other.placeholder) and self.key != other.key


def lineage(concept: TrainedConcept) -> Lineage:
    """The concept's lineage. Without a record of its stages, its vectors are its beginning."""
    record = concept.record
    stages = record.get("stages") or []
    listed = record.get("photos")
    photos = [p for p in listed if isinstance(p, dict)] if isinstance(listed, list) else []
    kept = record.get(KEPT)
    if isinstance(kept, str):
        key = kept
    elif stages:
        start = {name: record.get(name) for name in _SAME_START}
        start["photos"] = [photo.get("sha256") for photo in photos]
        start["stage"] = stages[0]
        key = hashlib.sha256(json.dumps(start, sort_keys=True, default=str).encode()).hexdigest()
    else:
        key = tensors_digest({"": concept.vectors, **concept.further})
    names = [repr(photo["name"]) for photo in photos if "name" in photo]
    shown = ", ".join(names[:_PHOTOS_NAMED]) + (", ..." if len(names) > _PHOTOS_NAMED else "")
    made_of = f"photos {shown}; " if names else ""
    label = f"{concept.placeholder!r} ({concept.category}; {made_of}start {key[:8]})"
    return Lineage(concept.placeholder, key, label)


def check_not_another(one: Lineage, other: Lineage, where: str) -> None:
    """ValueError, naming both, if they are two concepts under one placeholder; `where` is the wire
    that has the first."""
    if one.is_another(other):
        raise ValueError(
            f"{where} already has the concept {one.label}, and {other.label} is another concept "
            f"with the same placeholder: prompts could not tell them apart. Give one of them "
            "another placeholder in its dataset node and train it again, or connect "
            f"{where} from before the first"
        )
