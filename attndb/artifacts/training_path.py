"""TrainingPath: what a training was asked for and the losses that it met, as its record says.

A concept that was kept on the way to another one has the beginning of its path, whichever run it
was kept by: a training that goes on with more steps is another run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config.stage import RUNTIME_FIELDS, StageConfig

_ASKED = [f.name for f in dataclasses.fields(StageConfig) if f.name not in RUNTIME_FIELDS]
_ASKED.remove("steps")


@dataclass(frozen=True)
class StagePath:
    """One stage."""

    asked: str
    """Its settings, but for how many steps."""
    losses: tuple[str, ...]
    """Of every step."""


@dataclass(frozen=True)
class TrainingPath:
    """All stages of a concept."""

    begun: str
    """What it was trained on."""
    stages: tuple[StagePath, ...]

    @property
    def steps(self) -> int:
        """Of the last stage."""
        return len(self.stages[-1].losses) if self.stages else 0

    def is_on_the_way_to(self, whole: TrainingPath) -> bool:
        """Whether a longer training, or one of more stages, came through here."""
        number = len(self.stages)
        if not 0 < number <= len(whole.stages) or self == whole:
            return False
        return self == whole._until(number, self.steps)

    def _until(self, number: int, steps: int) -> TrainingPath:
        *before, last = self.stages[:number]
        cut = dataclasses.replace(last, losses=last.losses[:steps])
        return dataclasses.replace(self, stages=(*before, cut))


def training_path(placeholder: str, category: str, record: Mapping[str, Any]) -> TrainingPath:
    """The path of a concept by its words and its record; without stages where it was not trained
    here, or the record does not say how."""
    begun = _plain([placeholder, category, record.get("base_sha256")])
    stages = record.get("stages") or []
    told = [stage for stage in stages if isinstance(stage, dict) and stage.get("losses")]
    whole = len(told) == len(stages) and all(isinstance(s["losses"], list) for s in told)
    return TrainingPath(begun, tuple(_stage(stage) for stage in told) if whole else ())


def _stage(record: Mapping[str, Any]) -> StagePath:
    asked = {name: record[name] for name in _ASKED if name in record}
    return StagePath(_plain(asked), tuple(_plain(loss) for loss in record["losses"]))


def _plain(value: Any) -> str:
    """As a file has it: tuples are lists there."""
    return json.dumps(value, sort_keys=True)
