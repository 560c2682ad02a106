"""A patcher's entries of one weight, and the concepts that they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....attndb.artifacts.lineage import Lineage


def lineages(entries: Sequence[Any]) -> Iterator[Lineage]:
    """Of the concepts in a patcher's entries (strength, patch, ...) of one weight; a merge node's
    entry holds another model's weight with that model's own entries."""
    for entry in entries:
        if isinstance(entry[1], list):
            yield from lineages(entry[1][1:])
        elif hasattr(entry[1], "attndb_lineage"):
            yield entry[1].attndb_lineage


def entries_without_concept(entries: Sequence[Any], placeholder: str) -> list[Any]:
    """A patcher's entries of one weight less those of the concept with this placeholder, however
    deep merge nodes have put them. Entries that hold none of it stay the same objects."""
    kept = []
    for entry in entries:
        if not any(mark.same_word(placeholder) for mark in lineages([entry])):
            kept.append(entry)
        elif isinstance(entry[1], list):
            base, *inner = entry[1]
            merged = [base, *entries_without_concept(inner, placeholder)]
            kept.append((entry[0], merged, *entry[2:]))
    return kept
