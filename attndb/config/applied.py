"""How a concept is applied while it is drawn: what a user types to compare several ways."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from .printable import quoted

MOST_STRENGTH = 10.0
MOST_CORRECTION = 1.0
_WHOLE_BY_COMMA = re.compile(r"(?<![\d.])\d+,\d+(?![\d.])")
"""Two whole numbers with a comma and no space between them: `0,8` is one number in half of Europe,
`1.0,0.8` and `1,0.8` are two everywhere."""


@dataclass(frozen=True)
class Applied:
    """What *Apply Concept* is asked for."""

    strength: float = 1.0
    """How much of the U-Net's change is added."""
    correction: float = 0.0
    """How far the learned word is turned towards its category's."""

    def without_weights(self) -> Applied:
        """The same for a concept that changes no weight: its strength says nothing."""
        return replace(self, strength=1.0)


AS_TRAINED = Applied()


def all_applied(strengths: str, corrections: str) -> tuple[Applied, ...]:
    """Each of the strengths with each of the corrections, as they were typed. ValueError, with the
    remedy, for what is no such list."""
    pairs = product(
        listed("strengths", strengths, MOST_STRENGTH, "1.0, 0.8, 0.6"),
        listed("corrections", corrections, MOST_CORRECTION, "0.0, 0.2"),
    )
    return tuple(Applied(strength, correction) for strength, correction in pairs)


def listed(name: str, text: str, most: float, example: str) -> tuple[float, ...]:
    """The different numbers of a text, in their order, between 0 and `most`; commas, semicolons and
    spaces part them. ValueError, which names the setting, for anything else."""
    words = [word for word in re.split(r"[,;\s]+", text) if word]
    if not words:
        raise ValueError(f"{name} is empty: type a number, or several, such as {example}")
    if _WHOLE_BY_COMMA.search(text):
        raise ValueError(
            f"{name} = {quoted(text, 40)} may be decimal commas or a list: write numbers with a "
            f"point and a space behind each comma, such as {example}"
        )
    return tuple(dict.fromkeys(_number(name, word, most, example) for word in words))


def _number(name: str, word: str, most: float, example: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise ValueError(
            f"{name}: {quoted(word, 40)} is no number from 0 to {most:g}; type such as {example}"
        )
    return number


def differences(applied: Sequence[Applied]) -> list[str]:
    """What tells each of several ways from the others, or from a concept as trained; empty where
    nothing does."""
    strength = {one.strength for one in applied} != {AS_TRAINED.strength}
    correction = {one.correction for one in applied} != {AS_TRAINED.correction}
    return [
        ", ".join(
            [f"strength {one.strength:g}"] * strength
            + [f"correction {one.correction:g}"] * correction
        )
        for one in applied
    ]
