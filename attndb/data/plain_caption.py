"""Captions of other trainers (kohya, OneTrainer) as ours: in the place of the subject's words `{}`.

They name the subject in plain words, `photo of sks dog on a sofa`, or in tags, `sks, dog, sofa`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..config.words import word_key
from .placeholder import placeholder_pattern, without_repeats

_FULL, _CATEGORY, _PART = range(3)
"""How sure some words are the subject: all of them, its category alone, a part of the trigger."""


@dataclass(frozen=True)
class SubjectWords:
    """What the subject is called in plain captions."""

    category: str
    placeholder: str = ""
    trigger: str = ""
    """The word that another trainer was to learn, `ohwx` or `sks dog`; empty: what a folder is
    called whose name begins with repeats, `10_sks dog`."""

    def template_of(self, text: str, folder: str = "") -> tuple[str, bool]:
        """A caption with `{}` for the subject, and whether the subject was found in it; if it was
        not, `{}` comes first. `folder`: the name of the one that the text lies in.

        Of several places the one that says most is the subject's: trigger and category, then the
        category. A tag that says it once more is left out, and where it stands whole once more in a
        sentence it becomes the category: there is one `{}`. Brackets are letters, no weights.
        """
        words = without_repeats(folder)
        trigger = self.trigger.strip() or (words if words != folder else "")
        return _Subject(self.category, self.placeholder, trigger).template_of(text)


@dataclass(frozen=True)
class _Subject:
    """The words that are looked for."""

    category: str
    placeholder: str
    trigger: str

    @cached_property
    def whole(self) -> list[str]:
        """What means this subject and no other of its category."""
        found = [self.placeholder, *self.trigger.split(",")]
        category = word_key(self.general)
        found = [" ".join(name.split()) for name in found]
        return [name for name in found if name and word_key(name) != category]

    @cached_property
    def general(self) -> str:
        """The category, with one space between its words."""
        return " ".join(self.category.split())

    @cached_property
    def parts(self) -> list[str]:
        """The words that stand before the category in them."""
        words = self.category.split()
        tail = [word_key(word) for word in words]
        split = [name.split() for name in self.whole]
        return [
            " ".join(name[: -len(tail)])
            for name in split
            if len(name) > len(tail) > 0 and [word_key(w) for w in name[-len(tail) :]] == tail
        ]

    def template_of(self, text: str) -> tuple[str, bool]:
        pieces = text.split(",")
        found = [(number, run) for number, piece in enumerate(pieces) for run in self._runs(piece)]
        if not found:
            return _literal(f"{{}}, {text}"), False
        place, subject = min(found, key=lambda one: self._rank(one[1]))
        kept = []
        for number, piece in enumerate(pieces):
            own = [run for at, run in found if at == number]
            if number != place and [run[0] for run in own] == [piece.strip()]:
                continue
            kept.append(self._written(piece, own, subject if number == place else None))
        return _literal(",".join(kept).strip()), True

    def _runs(self, piece: str) -> list[re.Match[str]]:
        """Where words of the subject stand, those next to each other together."""
        names = [name for name in (*self.whole, *self.parts, self.general) if name]
        if not names:
            return []
        name = f"(?:{placeholder_pattern(names)})"
        return list(re.finditer(rf"{name}(?:\s+{name})*", piece))

    def _rank(self, run: re.Match[str]) -> int:
        def holds(names: Sequence[str]) -> bool:
            return bool(names) and re.search(placeholder_pattern(names), run[0]) is not None

        category = [self.general] if self.general else []
        if holds(self.whole) or (holds(self.parts) and holds(category)):
            return _FULL
        return _CATEGORY if holds(category) else _PART

    def _written(
        self, piece: str, runs: Sequence[re.Match[str]], subject: re.Match[str] | None
    ) -> str:
        """A piece of the caption with `{}` for the subject."""
        for run in reversed(runs):
            if run is subject:
                words = "{}"
            elif self._rank(run) == _FULL:
                words = self.category
            else:
                continue
            piece = piece[: run.start()] + words + piece[run.end() :]
        return piece


def _literal(text: str) -> str:
    """With brackets that are no weights of a prompt."""
    return re.sub(r"(?<!\\)([()])", r"\\\1", text)
