"""A row of the contest that nobody trained for."""

from __future__ import annotations

from attndreambooth.benchmarks.contest.rows import Row
from attndreambooth.benchmarks.contest.standings import SCORES


def a_row(method: str, concept: str, value: float, **fields) -> Row:
    """Of a method and a concept, with this score and a little more in each of the next."""
    values = {score: value + 0.01 * i for i, score in enumerate(SCORES)}
    given = {"places": "many", "seed": 0, "asked": "x", "seconds": 2.0, "samples": 8} | fields
    kinds = {"short": {"joint": value}, "long": {"joint": value / 2}}
    return Row(
        method=method, concept=concept, values=values, by_kind=kinds, missed={"place": 1}, **given
    )
