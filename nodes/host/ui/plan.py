"""NodePlan: the stages that one node trains, and how long the whole of them still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....attndb.config.stage import StageConfig

_COST = {1: 1.3, 2: 1.0, 3: 1.5}
"""Time of a sample in each stage next to stage 2, as measured (docs/speed.md, sd15-small)."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a node."""

    title: str
    """Shown while it trains."""
    steps: int
    """Optimiser steps."""
    cost: float = 1.0
    """Time of one of its steps next to the other stages' of the same node."""


class NodePlan:
    """Where a training node is in all its stages.

    A stage's pace tells that of those to come, by their cost. What a stage takes before its first
    step (loading, encoding) is measured and counted for those to come.
    """

    def __init__(
        self, stages: Sequence[StagePlan], clock: Callable[[], float] = time.monotonic
    ) -> None:
        assert stages, "a node trains at least one stage"
        self.stages = tuple(stages)
        self._clock = clock
        self._began_node = self._began_stage = clock()
        self._number = 0
        self._done: int | None = None
        self._setup: list[float] = []
        self._seconds: float | None = None
        self.trouble: Callable[[], str] = str
        """Why the work is not on disk at the moment; empty when it is."""
        self.notes: list[str] = []
        """What a user should not miss: it is shown to the end."""
        self.folder = ""
        """Where the work of the newest stage lies."""
        self.kept = ""
        """How much is kept there; empty when nothing was trained."""
        self.not_kept = ""
        """Why its result could not be kept there; empty when it was."""

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def before(self) -> int:
        """Steps of the stages before the present one."""
        return sum(stage.steps for stage in self.stages[: self._number])

    @property
    def steps(self) -> int:
        """Steps of the present stage."""
        return self.stages[self._number].steps

    @property
    def done(self) -> int:
        """Steps done so far, of all."""
        return self.before + (self._done or 0)

    @property
    def title(self) -> str:
        """The present stage's."""
        return self.stages[self._number].title

    @property
    def trained(self) -> bool:
        """Whether a step was made; not so if every stage was finished before."""
        return bool(self._setup)

    @property
    def elapsed(self) -> float:
        """Seconds since the node began."""
        return self._clock() - self._began_node

    def begin(self, number: int) -> None:
        """The stage of that number, from 0, begins; those before it are finished."""
        self._number, self._done = number, None
        self._began_stage = self._clock()

    def step(self, done: int, rate: float | None) -> None:
        """`done` steps of the present stage are done, at `rate` steps a second if it is known."""
        if self._done is None:
            self._setup.append(self._clock() - self._began_stage)
        self._done = done
        if rate is not None:
            self._seconds = 1.0 / (rate * self.stages[self._number].cost)

    def left(self, first: float = 0.0) -> float | None:
        """Seconds until the node is done, None while no pace is known. `first`: seconds until
        the present stage's next step."""
        if self._seconds is None:
            return None
        setup = sum(self._setup) / len(self._setup)
        total = first
        for number, stage in enumerate(self.stages[self._number :]):
            steps = stage.steps - (0 if number else self._done or 0)
            total += steps * stage.cost * self._seconds + (setup if number else 0.0)
        return total


def plan_of(titles: Sequence[str], configs: Sequence[StageConfig]) -> NodePlan:
    """The plan of these stages, by their titles."""
    return NodePlan(
        [
            StagePlan(title, config.steps, config.batch_size * _COST.get(config.stage, 1.0))
            for title, config in zip(titles, configs, strict=True)
        ]
    )
