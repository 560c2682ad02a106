"""named: the first of many names, and how many more there are."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 5
"""Names of a message, unless it says otherwise."""


def named(names: Sequence[str], most: int = MOST, *, sentences: bool = False) -> str:
    """`a, b and 3 more`; whole sentences as `a; b; and 3 more`. All of them up to `most`."""
    between, last = ("; ", "; and ") if sentences else (", ", " and ")
    more = len(names) - most
    return between.join(names[:most]) + (f"{last}{more} more" if more > 0 else "")
