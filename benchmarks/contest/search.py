"""Search: trials on the tuning concepts, in two rounds, and the best of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...micro.concepts import TUNING, Concept
from .contestant import Contestant
from .rows import Row
from .standings import standings
from .studio import Studio
from .table import Table

FIRST, THEN = TUNING[:2], TUNING[2:]
FINALISTS = 2
"""Trials of each kind that see the other concepts, too."""


def best_of(scores: Mapping[str, Mapping[str, Any]], count: int = 1) -> list[str]:
    """The names with the highest joint + truth, the best first."""

    def height(name: str) -> float:
        return scores[name]["joint"].mean + scores[name]["truth"].mean

    return sorted(scores, key=height, reverse=True)[:count]


class Search:
    """Trials by kind (a method, say), and the rows that answer them."""

    def __init__(
        self,
        table: Table,
        trials: Mapping[str, Sequence[Contestant]],
        finalists: int = FINALISTS,
    ) -> None:
        self.table, self.trials, self._finalists = table, trials, finalists

    @property
    def everyone(self) -> list[Contestant]:
        """Of the first round."""
        return [c for trials in self.trials.values() for c in trials]

    def rows(self, contestants: Sequence[Contestant], concepts: Sequence[Concept]) -> list[Row]:
        """Of these, without those that nobody trains."""
        names = {c.name for c in contestants}
        return [r for r in self.table.found(contestants, concepts) if r.method in names]

    def finalists(self, kind: str) -> list[Contestant]:
        """The best of the first round."""
        trials = self.trials[kind]
        names = best_of(standings(self.rows(trials, FIRST)), self._finalists)
        return [c for c in trials if c.name in names]

    def run(self, studio: Studio) -> None:
        """Both rounds."""
        self.table.fill(studio, self.everyone, FIRST)
        self.table.fill(studio, [c for kind in self.trials for c in self.finalists(kind)], THEN)

    def winner(self, kind: str) -> Contestant:
        """The best of the second round over all tuning concepts."""
        finalists = self.finalists(kind)
        name = best_of(standings(self.rows(finalists, TUNING)))[0]
        return next(c for c in finalists if c.name == name)

    def scores(self, kind: str) -> dict[str, dict[str, float]]:
        """Trial -> on how many concepts, and its mean scores there."""
        finalists = [c.name for c in self.finalists(kind)]
        return {
            c.name: self.means(c, TUNING if c.name in finalists else FIRST)
            for c in self.trials[kind]
        }

    def means(self, one: Contestant, concepts: Sequence[Concept] = TUNING) -> dict[str, float]:
        """On how many concepts, and the mean scores there."""
        columns = standings(self.rows([one], concepts))[one.name]
        means = {score: round(value.mean, 4) for score, value in columns.items()}
        return {"concepts": len(concepts), **means}
