"""Standings: means over concepts with their 95 % intervals, and paired differences to ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .rows import Row

SCORES = ("truth", "present", "text", "joint", "clip_i", "clip_t")
RESAMPLES = 4000
LEVEL = 0.05
"""A difference that chance gives more rarely is marked."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference(Interval):
    """A mean of paired differences, its interval, and how often chance gives one as large."""

    chance: float


def interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Percentile bootstrap over the values, one for each concept (Efron 1979).

    Of few values it is too narrow: it leaves the true mean of four out in one case of five, of
    twelve in one of eleven. ValueError without values; one value is its own interval.
    """
    if not values:
        raise ValueError("interval: there is no value; train at least one concept")
    x = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = x[rng.integers(len(x), size=(RESAMPLES, len(x)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(x.mean()), float(low), float(high))


def chance_of(values: Sequence[float]) -> float:
    """How often the mean of paired differences is at least as far from zero if a coin decides the
    sign of each: the exact sign-flip test, two-sided (Fisher 1935). Below six values it cannot be
    0.05."""
    x, n = np.asarray(values, dtype=np.float64), len(values)
    signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    return float(np.mean(np.abs(signs @ x) >= abs(x.sum()) - 1e-9))


def _by_concept(rows: Sequence[Row], score: str) -> dict[str, float]:
    """Concept -> mean over seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.concept, []).append(row.values[score])
    return {concept: float(np.mean(values)) for concept, values in found.items()}


def on_common_concepts(rows: Sequence[Row]) -> list[Row]:
    """The rows of those concepts that every method of them has: means of others do not compare."""
    methods: dict[str, set[str]] = {}
    for row in rows:
        methods.setdefault(row.method, set()).add(row.concept)
    common = set.intersection(*methods.values()) if methods else set()
    return [row for row in rows if row.concept in common]


def unfinished(rows: Sequence[Row], methods: Sequence[str], concepts: int) -> str:
    """What a table of these methods lacks, if it has these rows; empty if nothing."""
    there = {row.method for row in rows}
    absent = [method for method in methods if method not in there]
    common = len({row.concept for row in on_common_concepts(rows)})
    said = [f"the {common} of {concepts} concepts that every method here has"]
    if absent:
        said.append(f"no row yet of {', '.join(absent)}")
    return f"Not finished: {'; '.join(said)}." if absent or common < concepts else ""


def standings(rows: Sequence[Row]) -> dict[str, dict[str, Interval]]:
    """Method -> score -> mean and interval over concepts; methods in the order of the rows."""
    methods = list(dict.fromkeys(row.method for row in rows))
    return {
        method: {
            score: interval(
                list(_by_concept([r for r in rows if r.method == method], score).values())
            )
            for score in SCORES
        }
        for method in methods
    }


def differences(rows: Sequence[Row], to: str) -> dict[str, dict[str, Difference]]:
    """Method -> score -> its mean minus that of `to` on the concepts that both have."""
    found: dict[str, dict[str, Difference]] = {}
    theirs = [row for row in rows if row.method == to]
    for method in dict.fromkeys(row.method for row in rows if row.method != to):
        mine = [row for row in rows if row.method == method]
        columns: dict[str, Difference] = {}
        for score in SCORES:
            a, b = _by_concept(mine, score), _by_concept(theirs, score)
            both = sorted(a.keys() & b.keys())
            if both:
                values = [a[c] - b[c] for c in both]
                own = interval(values)
                columns[score] = Difference(own.mean, own.low, own.high, chance_of(values))
        if columns:
            found[method] = columns
    return found


def seconds_of(rows: Sequence[Row]) -> dict[str, float]:
    """Method -> median training time of a concept: by the clock, with the pauses of a process that
    was held up, so that few such concepts do not decide it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.method, []).append(row.seconds)
    return {method: float(np.median(values)) for method, values in found.items()}


Line = tuple[str, ...]


def standings_lines(rows: Sequence[Row]) -> list[Line]:
    """The means and intervals, a line for each method below the head."""
    took = seconds_of(rows)
    lines: list[Line] = [("method", "concepts", *SCORES, "samples", "training")]
    for method, columns in standings(rows).items():
        own = [row for row in rows if row.method == method]
        concepts, samples = len({row.concept for row in own}), own[0].samples
        cost = (str(samples), f"{took[method]:.0f} s") if samples else ("", "")
        lines.append((method, str(concepts), *(str(columns[s]) for s in SCORES), *cost))
    return lines


def difference_lines(rows: Sequence[Row], to: str, sure: str = "**{}**") -> list[Line]:
    """The paired differences, as `sure` has it (bold in Markdown) where chance gives them too
    rarely (LEVEL); nothing without one."""
    found = differences(rows, to)
    lines: list[Line] = [(f"minus {to}", *SCORES)] if found else []
    for method, columns in found.items():
        lines.append((method, *(_signed(columns[s], sure) if s in columns else "" for s in SCORES)))
    return lines


def _signed(value: Difference, sure: str) -> str:
    text = f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
    return sure.format(text) if value.chance <= LEVEL else text


def kind_lines(rows: Sequence[Row], score: str = "joint") -> list[Line]:
    """One score by kind of prompt, means over concepts."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.by_kind))
    lines: list[Line] = [(score, *kinds)]
    for method in dict.fromkeys(row.method for row in rows):
        some: Mapping[str, NDArray[np.float64]] = {
            kind: np.array([r.by_kind[kind][score] for r in rows if r.method == method])
            for kind in kinds
        }
        lines.append((method, *(f"{some[kind].mean():.2f}" for kind in kinds)))
    return lines
