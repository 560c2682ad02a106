"""Placeholders as words: how they are found in a prompt, and which is used when none is typed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from .dataset import DEFAULT_PLACEHOLDER

LONGEST = 40
"""Letters of the name that are kept: a placeholder becomes part of file names."""
_PREFIX = "my-"
_REPEATS = re.compile(r"^\d+_(?=.*[^\W\d_])")
_WORDLIKE = re.compile(r"[\w-]")
_NO_WORD_BEFORE = r"(?<![\w-])"
_NO_WORD_AFTER = r"(?![\w\u0300-\u036f-])"  # nor an accent of its last letter


def default_placeholder(name: str, plain: bool = False) -> str:
    """`<my-red-bag>` for a folder or a concept of the name `Red Bag`; `<my-subject>` for one
    without a letter or a digit.

    Of a path only the last part counts. `my-` keeps the placeholder from being read as the
    category, for which folders are often named. `plain`: a dataset of another trainer, whose
    folders may begin with repeats: `<my-sks-dog>` for `10_sks dog`.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if plain:
        last = without_repeats(last)
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", last).lower())
    if words[:1] == ["my"] and words[1:]:
        words = words[1:]
    stem = "-".join(words)[:LONGEST].rstrip("-")
    return f"<{_PREFIX}{stem}>" if stem else DEFAULT_PLACEHOLDER


def without_repeats(folder: str) -> str:
    """`sks dog` for the folder `10_sks dog`, which kohya's trainers show ten times in an epoch; the
    name as it is, if no words follow a number."""
    return _REPEATS.sub("", folder, count=1)


def placeholder_pattern(names: Iterable[str]) -> str:
    """A regular expression, with a group per name in the order of `by_length`, that finds
    placeholders in a prompt: without case and with accents in whatever form, as CLIP reads, the
    longest first, and where a name begins or ends with a letter, a digit or a hyphen, only where a
    word does."""
    return "|".join(map(_name_pattern, by_length(names)))


def _name_pattern(name: str) -> str:
    whole, parts = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    written = "|".join(map(re.escape, dict.fromkeys((whole, parts))))
    return (
        f"{_NO_WORD_BEFORE if _WORDLIKE.match(whole[0]) else ''}((?i:{written}))"
        f"{_NO_WORD_AFTER if _WORDLIKE.match(whole[-1]) else ''}"
    )


def by_length(names: Iterable[str]) -> list[str]:
    """The names, the longest first, equal ones in order."""
    return sorted(names, key=len, reverse=True)
