"""Table: contestants by concepts, filled row by row; a stopped one goes on, two processes share."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...attndb.config.choices import Precision
from ...attndb.training.folder_lock import FolderLock, FolderLockedError
from ...attndb.training.session import code_versions
from ...micro.concepts import Concept
from ...micro.prompts import PROMPTS
from ...micro.sampling import GUIDANCE, STEPS
from ...micro.scores import VERSION
from ...micro.weight_files import card_hashes
from .contestant import Contestant
from .pictures import keep_pictures
from .rows import COMMITTED, Row, answered, digest_of, read_rows, save_row
from .studio import Scored, Studio

log = logging.getLogger(__name__)

ORACLE, BASE = "oracle", "base model"
"""Rows that nobody trains: the true renderings through the autoencoder, and the plain category."""
DOCUMENTED = COMMITTED / "asked.json"
"""Pictures of each prompt and weights (file -> sha256), as the documented rows were made with."""
POLL_S = 2.0
"""Seconds between two looks for the rows of another process."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What all rows of a table share."""

    places: str = "many"
    seed: int = 0
    images: int = 4
    precision: Precision = "auto"
    weights: Mapping[str, str] = field(default_factory=card_hashes)
    """File of the embedded model -> sha256."""


def documented_asked(places: str = "many") -> Asked:
    """What the rows of docs/evaluation.md share."""
    return Asked(places=places, precision="fp32", **json.loads(DOCUMENTED.read_text("utf-8")))


class Table:
    """What is asked for, and the rows that answer it."""

    def __init__(self, asked: Asked, folder: Path, *, pictures: bool = False) -> None:
        self.asked, self.folder, self._pictures = asked, folder, pictures

    def digest(self, contestant: Contestant | None) -> str:
        """Of all that decides a row but its concept, photo set and seed."""
        stages = () if contestant is None else contestant.stages
        precision = self.asked.precision
        return digest_of(
            {
                "stages": [c.with_(precision=precision).identity() for c in stages],
                "correction": 0.0 if contestant is None else contestant.correction,
                "prompts": [asdict(prompt) for prompt in PROMPTS],
                "images": self.asked.images,
                "sampling": [STEPS, GUIDANCE],
                "weights": dict(self.asked.weights),
                "code": [VERSION, *(code_versions(c) for c in stages)],
            }
        )

    def fill(
        self, studio: Studio, contestants: Sequence[Contestant], concepts: Sequence[Concept]
    ) -> None:
        """Make every row that is missing; wait for those that another process is making."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = [
            (name, contestant, concept)
            for concept in concepts
            for name, contestant in _named(contestants)
        ]
        while wanted := [row for row in wanted if not self._make(studio, *row)]:
            time.sleep(POLL_S)

    def _empty(self, name: str, contestant: Contestant | None, concept: str) -> Row:
        return Row(
            method=name,
            concept=concept,
            places=self.asked.places,
            seed=self.asked.seed,
            asked=self.digest(contestant),
            values={},
            by_kind={},
            missed={},
            seconds=0.0,
            samples=0 if contestant is None else contestant.samples,
        )

    def _make(
        self, studio: Studio, name: str, contestant: Contestant | None, concept: Concept
    ) -> bool:
        """Whether the row is there; not while another process makes it."""
        empty = self._empty(name, contestant, concept.name)
        lock = FolderLock(self.folder / f"{empty.file}.lock")
        try:
            lock.acquire()
        except FolderLockedError:
            return False
        try:
            if answered(empty, read_rows(self.folder)):
                return True
            scored, seconds = self._scored(studio, empty, contestant, concept)
            made: dict[str, Any] = asdict(empty) | asdict(scored) | {"seconds": round(seconds, 1)}
            save_row(Row(**made), self.folder)
            values = ", ".join(f"{key} {value:.3f}" for key, value in scored.values.items())
            log.info("%s, %s: %s, %.0f s", name, concept.name, values, seconds)
            return True
        finally:
            lock.release()

    def _scored(
        self, studio: Studio, row: Row, contestant: Contestant | None, concept: Concept
    ) -> tuple[Scored, float]:
        asked, seconds, learned, correction = self.asked, 0.0, None, 0.0
        if contestant is not None:
            learned, seconds = studio.train(contestant, concept, asked.places, asked.seed)
            correction = contestant.correction
        if row.method == ORACLE:
            pictures = studio.true(concept)
        else:
            pictures = studio.draw(concept, learned, correction, asked.seed + 1000)
        if self._pictures:
            keep_pictures(self.folder, row, pictures, asked.images)
        return studio.score(pictures, concept, asked.places), seconds

    def found(self, contestants: Sequence[Contestant], concepts: Sequence[Concept]) -> list[Row]:
        """The rows that answer, in the order of the table; others of the folder are left out."""
        rows = read_rows(self.folder) if self.folder.is_dir() else []
        found = []
        for name, contestant in _named(contestants):
            for concept in concepts:
                empty = self._empty(name, contestant, concept.name)
                found += [row for row in rows if row.key == empty.key]
        return found


def _named(contestants: Sequence[Contestant]) -> list[tuple[str, Contestant | None]]:
    return [(ORACLE, None), (BASE, None), *((c.name, c) for c in contestants)]
