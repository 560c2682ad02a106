"""A studio of the contest that trains and draws nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attndreambooth.benchmarks.contest.contestant import Contestant
from attndreambooth.benchmarks.contest.standings import SCORES
from attndreambooth.benchmarks.contest.studio import Scored


class FakeStudio:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def train(self, contestant, concept, places, seed):
        self.calls.append(("train", contestant.name, concept.name))
        return "learned", 3.04

    def draw(self, concept, learned, correction, seed):
        self.calls.append(("draw", learned, correction))
        return np.zeros((1, 8, 8, 3), np.uint8)

    def true(self, concept):
        return np.ones((1, 8, 8, 3), np.uint8)

    def score(self, pictures, concept, places):
        values: dict[str, float] = dict.fromkeys(SCORES, float(pictures.mean()))
        return Scored(values=values, by_kind={"short": {"joint": 0.5}}, missed={})


class JudgingStudio(FakeStudio):
    """All scores of a contestant are a hundred times its height, 0.1 if none is given."""

    def __init__(self, heights: Mapping[str, float]) -> None:
        super().__init__()
        self._heights = heights

    def train(self, contestant: Contestant, concept: Any, places: str, seed: int):
        super().train(contestant, concept, places, seed)
        return contestant, 1.0

    def draw(self, concept, learned, correction, seed):
        height = self._heights.get(learned.name, 0.1) if learned else 0.0
        return np.full((1, 8, 8, 3), height * 100, np.uint8)
