"""Points: small JSON files, one for each moment of a training that was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..record import RecordError, read_record, save_record

FORMAT = 1
Kind = Literal["look", "score"]
"""`look`: what the model attends to. `score`: what it draws."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One moment of one training."""

    line: str
    concept: str
    kind: Kind
    stage: int
    """1 for a method of one stage."""
    step: int
    """Steps of this stage that were done; 0: before the first one."""
    at: int
    """The same, those of the stages before it included."""
    values: Mapping[str, float]

    @property
    def file(self) -> str:
        """Its name within the folder of its training."""
        return file_of(self.kind, self.stage, self.step)


def file_of(kind: Kind, stage: int, step: int) -> str:
    """Name of a point's file."""
    return f"{kind}-{stage}-{step:05d}.json"


def save_point(point: Point, folder: Path) -> None:
    """Write it in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    save_record(point, folder / point.file, FORMAT)


def read_point(path: Path) -> Point:
    """RecordError for a file that is no point, or one of another version or moment."""
    remedy = "delete it, and it is made again"
    point = read_record(Point, path, FORMAT, "point of a training", remedy)
    if point.kind not in get_args(Kind) or point.file != path.name:
        raise RecordError(f"{path} is the point of another moment, {point.file}: {remedy}")
    return point


def read_points(folder: Path) -> list[Point]:
    """All points of a training's folder, in order."""
    paths = [p for kind in get_args(Kind) for p in sorted(folder.glob(f"{kind}-*.json"))]
    return [read_point(path) for path in paths]
