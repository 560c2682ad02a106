"""Scores of concepts and of folders of pictures, as lines or as a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from ..attndb.artifacts.concept import ConceptFileError, TrainedConcept
from ..attndb.artifacts.concept_files import load_concept
from ..attndb.artifacts.tensor_file import png_writer, write_whole
from ..attndb.config.applied import all_applied
from ..attndb.config.named import named
from ..attndb.config.printable import printable
from ..attndb.data.folder import load_folder
from ..attndb.data.photo import Photo
from ..attndb.evaluation.encoder import Encoder
from ..attndb.evaluation.report import to_picture
from ..attndb.evaluation.score_table import score_table
from ..attndb.evaluation.scores import Reference, Sample, Scores, score
from ..attndb.jobs.document import Problem
from ..attndb.jobs.job import MICRO
from ..attndb.training.out_of_memory import is_out_of_memory
from ..nodes.columns import Column, columns_of
from ..nodes.evaluation import Evaluation, Trial, check_best_by
from ..nodes.evaluation import evaluate as evaluate_concepts
from ..nodes.host.image_encoders import folder_encoder, micro_encoder
from ..nodes.host.model.sampling import SamplerSettings
from ..nodes.host.paths import find_concept
from ..nodes.score_images import asked_of
from .command_line import refused
from .wires import Models

_CELL = 256
_TOO_LARGE = (
    "out of memory while drawing or scoring: close what else uses the device, or draw smaller "
    "pictures (--size)"
)


@dataclass(frozen=True)
class _Given:
    """What is scored, and by what."""

    reference: Reference
    concepts: Sequence[TrainedConcept]
    folders: Sequence[_Folder]
    others: Sequence[Photo]
    encoders: Sequence[Encoder]


@dataclass(frozen=True)
class _Folder:
    """Pictures, and what each was asked for: whole and beside the subject."""

    path: str
    pictures: Sequence[Photo]
    asked: Sequence[tuple[str, str]]


class _Found:
    """What scoring gave so far: lines as soon as a row is scored, a table of all at the end."""

    def __init__(self, out: IO[str], *, as_json: bool) -> None:
        self._out, self._as_json = out, as_json
        self._rows: list[Scores] = []
        self.best: Column | None = None
        self.verdict = ""

    def add(self, row: Scores) -> None:
        """One more is scored."""
        self._rows.append(row)
        if self._as_json:
            self._event({"event": "scores", **row.as_dict(), "notes": list(row.notes)})

    def table(self) -> None:
        """All that was scored, for people."""
        if self._rows and not self._as_json:
            verdict = f"\n\n{self.verdict}" if self.verdict else ""
            self._out.write(f"{score_table(self._rows)}{verdict}\n")

    def end(self, by: str) -> None:
        """All is scored."""
        if self._as_json:
            self._event({"event": "end", **_best(self.best), "by": by, "text": self.verdict})

    def _event(self, event: dict[str, Any]) -> None:
        self._out.write(json.dumps(event) + "\n")
        self._out.flush()


def evaluate(options: argparse.Namespace, out: IO[str]) -> int:
    """Scores what the options name and writes it to `out`. 0, or 2 with what is wrong with photos,
    pictures, concepts or encoders, or 1 if drawing or scoring failed, behind what was scored. What
    was scored is also there when somebody stops it, which raises KeyboardInterrupt."""
    found, failed = _Found(out, as_json=options.json), None
    with torch.inference_mode():
        try:
            given = _given(options)
        except (ValueError, OSError, ConceptFileError) as error:
            return refused([Problem(0, printable(error))], out, as_json=options.json)
        try:
            _score(options, given, found)
        except (ValueError, OSError) as error:
            failed = Problem(0, printable(error))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            failed = Problem(0, _TOO_LARGE)
        finally:
            found.table()
    if failed is not None:
        refused([failed], out, as_json=options.json)
        return 1
    found.end(options.best_by)
    return 0


def _given(options: argparse.Namespace) -> _Given:
    """What the options name, read. ValueError, OSError or ConceptFileError if it cannot be used."""
    reference = _reference(load_folder(options.photos, masks=options.masks), options.masks)
    pictures = {path: load_folder(path) for path in options.pictures}
    others = [] if options.others is None else load_folder(options.others)
    concepts = [load_concept(*find_concept(name)) for name in options.concepts]
    encoders = [micro_encoder() if e == MICRO else folder_encoder(e) for e in options.encoder]
    if concepts:  # of pictures none is chosen
        check_best_by(options.best_by, encoders)
    category = options.category.strip()
    folders = [
        _Folder(str(path), own, asked_of(options.asked, len(own), category))
        for path, own in pictures.items()
    ]
    return _Given(reference, concepts, folders, others, encoders)


def _score(options: argparse.Namespace, given: _Given, found: _Found) -> None:
    """Scores the concepts, then the folders, so that what was found before an error is there."""
    if given.concepts:
        drawn = _concepts(options, given, found)
        found.best, found.verdict = drawn.best.column, drawn.verdict
        if options.grid is not None:
            write_whole({options.grid: png_writer(to_picture(drawn.grid(_CELL)))})
    distractors: dict[Hashable, list[Tensor]] = {None: [_tensor(other) for other in given.others]}
    for folder in given.folders:
        samples = _samples(folder)
        found.add(score(folder.path, samples, given.reference, given.encoders, distractors))


def _best(column: Column | None) -> dict[str, Any]:
    """The best concept by its name, and how it was applied."""
    if column is None:
        return {"best": None}
    return {"best": column.name, **asdict(column.applied)}


def _concepts(options: argparse.Namespace, given: _Given, found: _Found) -> Evaluation:
    """The model before training and each concept, as Evaluate Concept has them."""
    columns = columns_of(
        {"concepts": list(given.concepts)},
        (),
        before=not options.no_before,
        applied=all_applied(options.strengths, options.corrections),
        names=options.concepts,
    )
    settings = SamplerSettings(
        steps=options.steps,
        cfg=options.cfg,
        width=options.size,
        height=options.size,
        seed=options.seed,
    )
    trial = Trial(
        prompts=options.lines,
        images=options.images,
        settings=settings,
        reference=given.reference,
        encoders=given.encoders,
        best_by=options.best_by,
        negative=options.negative,
    )
    labels = [column.label for column in columns]
    return evaluate_concepts(Models().wires(options.model), columns, labels, trial, found.add)


def _samples(folder: _Folder) -> list[Sample]:
    """The pictures of a folder, as Score Images has them."""
    return [
        Sample(picture=_tensor(picture), text=text, context=rest)
        for picture, (text, rest) in zip(folder.pictures, folder.asked, strict=True)
    ]


def _reference(photos: Sequence[Photo], source: str) -> Reference:
    """The subject's photos. ValueError if some of them have a mask and others none."""
    bare = [printable(photo.name, 200) for photo in photos if photo.mask is None]
    if len(bare) not in (0, len(photos)):
        raise ValueError(
            f"--masks {source}: {named(bare, 1)} of {len(photos)} photos have no mask: give each "
            "one, take these out of the folder of --photos, or leave --masks out"
        )
    masks = [photo.mask for photo in photos if photo.mask is not None]
    return Reference(
        photos=[_tensor(photo) for photo in photos],
        masks=[torch.from_numpy(np.asarray(mask, np.float32) / 255) for mask in masks],
    )


def _tensor(photo: Photo) -> Tensor:
    """(Y, X, 3) in 0..1."""
    return torch.from_numpy(np.asarray(photo.image.convert("RGB"), np.float32) / 255)
