"""Course: one contestant on one concept, looked at from before its first step to after its last."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.config.stage import StageConfig
from ...attndb.training.folder_lock import FolderLock, FolderLockedError
from ...attndb.training.session import code_versions, train_stage
from ...attndb.training.stage_request import StageRequest
from ...devkit.in_process import host_folders
from ..contest.contestant import Contestant
from ..contest.rows import digest_of
from .observation import TIMESTEPS
from .points import Kind, Point, file_of, read_points, save_point
from .world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """How often it is looked."""

    every: int = 20
    """Steps between looks at the attention; after each stage there is one, too."""
    score_every: int = 100
    """Steps between drawn and scored pictures; after each stage they are, too. 0: only then."""
    seed: int = 0
    """Of the training."""


class Course:
    """What is asked of a training, and the points that answer it, in a folder of its own. The run
    lies there as well until every point is made, so that a stopped one goes on."""

    def __init__(
        self, contestant: Contestant, concept: str, world: World, how: TrackingOptions, rows: Path
    ) -> None:
        self.contestant, self.concept, self._world, self._how = contestant, concept, world, how
        self.stages = tuple(c.with_(seed=how.seed) for c in contestant.stages)
        asked = {
            **{"stages": [config.identity() for config in self.stages], "world": world.asked},
            **{"every": how.every, "score_every": how.score_every},
            **{"context": world.context, "timesteps": TIMESTEPS},
            "code": [code_versions(config) for config in self.stages],
        }
        words = "-".join(contestant.name.lower().replace("+", "plus").split())
        self.folder = rows / f"{words}--{concept}--{digest_of(asked)}"

    @property
    def ends(self) -> list[int]:
        """Steps of all stages up to the end of each."""
        steps = [config.steps for config in self.stages]
        return [sum(steps[: number + 1]) for number in range(len(steps))]

    def points(self) -> list[Point]:
        """Those that are there."""
        return read_points(self.folder)

    def words(self) -> int:
        """How many words share the attention when it is looked at."""
        from .bench import words_looked_at

        _, clip, _ = self._world.wires
        dataset = self._world.dataset(self.concept)
        return words_looked_at(clip, dataset, self.stages[0], self._world.context)

    def missing(self) -> list[str]:
        """Files of the moments that were not looked at."""
        return [name for name in self._wanted() if not (self.folder / name).is_file()]

    def _wanted(self) -> list[str]:
        kinds: tuple[tuple[Kind, int], ...] = (
            ("look", self._how.every),
            ("score", self._how.score_every),
        )
        found = [file_of("look", 1, 0), file_of("score", 1, 0)]
        for number, config in enumerate(self.stages, 1):
            for kind, every in kinds:
                moments = {*(range(every, config.steps, every) if every else ()), config.steps}
                found += [file_of(kind, number, step) for step in sorted(moments - {0})]
        return found

    def fill(self) -> None:
        """Makes what is missing, unless another process is at it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(self.folder / "lock")
        try:
            lock.acquire()
        except FolderLockedError:
            log.info("%s: another process is at it", self.folder.name)
            return
        try:
            self.points()  # a damaged one is told of before hours of training, not after
            run = self.folder / "run"
            if self.missing():
                self._train(run)
            if self.missing():  # a finished run is not looked at again: it is made once more
                shutil.rmtree(run, ignore_errors=True)
                self._train(run)
            shutil.rmtree(run, ignore_errors=True)
        finally:
            lock.release()

    def _train(self, run: Path) -> None:
        run.mkdir(parents=True, exist_ok=True)
        host_folders(run)
        self._score(1, 0, None)
        learned: TrainedConcept | None = None
        for number, config in enumerate(self.stages, 1):
            learned = self._stage(number, config, learned)
            if config.steps:
                self._score(number, config.steps, learned)

    def _stage(
        self, number: int, config: StageConfig, learned: TrainedConcept | None
    ) -> TrainedConcept:
        from .bench import ObservedBench

        title = f"{self.contestant.name}, {self.concept}, stage {number}"
        bench = ObservedBench(
            self._world.wires,
            title,
            config,
            self._world.context,
            learned,
            look=lambda step, values: self._keep("look", number, step, values),
            looked=lambda step: self._has("look", number, step),
            score=lambda step, concept: self._score(number, step, concept),
            every=self._how.every,
        )
        request = StageRequest(
            dataset=self._world.dataset(self.concept),
            config=config,
            concept=learned,
            title=title,
            concepts_every=self._how.score_every,
        )
        return train_stage(bench, request)[0]

    def _score(self, number: int, step: int, concept: TrainedConcept | None) -> None:
        if not self._has("score", number, step):
            self._keep("score", number, step, self._world.scores(self.concept, concept))

    def _has(self, kind: Kind, number: int, step: int) -> bool:
        return (self.folder / file_of(kind, number, step)).is_file()

    def _keep(self, kind: Kind, number: int, step: int, values: dict[str, float]) -> None:
        point = Point(
            line=self.contestant.name,
            concept=self.concept,
            kind=kind,
            stage=number,
            step=step,
            at=sum(config.steps for config in self.stages[: number - 1]) + step,
            values=values,
        )
        save_point(point, self.folder)
        said = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("%s, %s, step %d: %s", point.line, point.concept, point.at, said)


def points_of(courses: Sequence[Course]) -> list[Point]:
    """All points that are there. Those with a `share` get a `weight`: the share times the number
    of words, 1 for as much as the average word gets. Not all methods' prompts have as many."""
    found: list[Point] = []
    for course in courses:
        if points := course.points():
            words = course.words()
            found += [_weighed(point, words) for point in points]
    return found


def _weighed(point: Point, words: int) -> Point:
    if "share" not in point.values:
        return point
    return replace(point, values={**point.values, "weight": words * point.values["share"]})
