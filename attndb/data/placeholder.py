"""The placeholder that is used when none is typed: made from the name of a folder or a concept."""

from __future__ import annotations

import re
import unicodedata

from .dataset import DEFAULT_PLACEHOLDER

LONGEST = 40
"""Letters of the name that are kept: a placeholder becomes part of file names."""
_PREFIX = "my-"


def default_placeholder(name: str) -> str:
    """`<my-red-bag>` for a folder or a concept of the name `Red Bag`; `<my-subject>` for one
    without a letter or a digit.

    Of a path only the last part counts. `my-` keeps the placeholder from being read as the
    category, for which folders are often named.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", last).lower())
    if words[:1] == ["my"] and words[1:]:
        words = words[1:]
    stem = "-".join(words)[:LONGEST].rstrip("-")
    return f"<{_PREFIX}{stem}>" if stem else DEFAULT_PLACEHOLDER
