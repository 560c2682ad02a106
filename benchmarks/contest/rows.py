"""Rows: small JSON files, one for each contestant and concept, so that a stopped table goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..record import read_record, save_record

FORMAT = 1
COMMITTED = Path(__file__).with_name("evaluated")
"""Those of the documented table."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant on one concept."""

    method: str
    concept: str
    places: str
    """Photo set: many | two."""
    seed: int
    asked: str
    """Digest of all that decides the figures: settings, weights, prompts, pictures per prompt, and
    the versions of the code that trains and scores."""
    values: Mapping[str, float]
    by_kind: Mapping[str, Mapping[str, float]]
    missed: Mapping[str, int]
    seconds: float
    samples: int
    """Training samples of all stages."""

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """What it answers."""
        return (self.method, self.concept, self.places, self.seed, self.asked)

    @property
    def file(self) -> str:
        """Its name, which no other row of any table has."""
        words = "-".join(self.method.lower().replace("+", "plus").split())
        return f"{words}--{self.concept}--{self.places}-{self.seed}-{self.asked[:8]}.json"


def digest_of(asked: Mapping[str, Any]) -> str:
    """Short SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def save_row(row: Row, folder: Path) -> None:
    """Write it in one move."""
    save_record(row, folder / row.file, FORMAT)


def read_row(path: Path) -> Row:
    """RecordError for a file that is no row, or one of another version."""
    remedy = "delete it, and the table makes it again"
    return read_record(Row, path, FORMAT, "row of the table", remedy)


def read_rows(folder: Path) -> list[Row]:
    """All rows of a folder."""
    return [read_row(path) for path in sorted(folder.glob("*--*.json"))]


def answered(row: Row, rows: Iterable[Row]) -> bool:
    """Whether there is a row of the same request."""
    return any(row.key == other.key for other in rows)
