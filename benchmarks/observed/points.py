"""Points: small JSON files, one for each moment of a training that was looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from ...attndb.artifacts.tensor_file import text_writer, write_whole
from ..contest.rows import RowError

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
    text = json.dumps({"format": FORMAT, **asdict(point)}, indent=1)
    write_whole({folder / point.file: text_writer(text)})


def read_point(path: Path) -> Point:
    """RowError for a file that is no point, or one of another version."""
    remedy = "delete it, and it is made again"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.pop("format")
        point = None if version != FORMAT else Point(**found)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RowError(f"{path} is no point of a training ({error}): {remedy}") from error
    if point is None:
        raise RowError(f"{path} is of version {version}, this is {FORMAT}: {remedy}")
    if point.kind not in get_args(Kind) or point.file != path.name:
        raise RowError(f"{path} is the point of another moment, {point.file}: {remedy}")
    return point


def read_points(folder: Path) -> list[Point]:
    """All points of a training's folder, in order."""
    paths = [p for kind in get_args(Kind) for p in sorted(folder.glob(f"{kind}-*.json"))]
    return [read_point(path) for path in paths]
