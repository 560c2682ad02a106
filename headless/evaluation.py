"""Scores of concepts and of folders of pictures, as lines or as a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..attndb.artifacts.concept import ConceptFileError
from ..attndb.artifacts.concept_files import load_concept
from ..attndb.artifacts.tensor_file import png_writer, write_whole
from ..attndb.config.printable import printable
from ..attndb.data.folder import load_folder
from ..attndb.data.photo import Photo
from ..attndb.evaluation.report import to_picture
from ..attndb.evaluation.score_table import best_row, score_table
from ..attndb.evaluation.scores import Reference, Sample, Scores, score
from ..attndb.jobs.document import Problem
from ..attndb.jobs.job import MICRO
from ..attndb.viz.evaluation_grid import evaluation_grid
from ..nodes.columns import columns_of, draw, labels_of
from ..nodes.evaluate_concept import (
    check_best_by,
    photo_of,
    pictured,
    scored,
    shots_of,
    verdict,
)
from ..nodes.host.image_encoders import folder_encoder, micro_encoder
from ..nodes.host.model.sampling import SamplerSettings
from ..nodes.host.paths import find_concept
from ..nodes.score_images import asked_of
from .command_line import refused
from .wires import Models

_CELL = 256


def evaluate(options: argparse.Namespace, out: IO[str]) -> int:
    """Scores what the options name and writes it to `out`. 0, or 2 with what is wrong with photos,
    pictures, concepts or encoders, or 1 if drawing or scoring failed, behind what was scored."""
    rows: list[Scores] = []
    best, said, failed = None, "", None
    with torch.inference_mode():
        try:
            reference = _reference(load_folder(options.photos, masks=options.masks), options.masks)
            sets = {path: load_folder(path) for path in options.pictures}
            others = [] if options.others is None else load_folder(options.others)
            concepts = [load_concept(*find_concept(name)) for name in options.concepts]
            encoders = [
                micro_encoder() if e == MICRO else folder_encoder(e) for e in options.encoder
            ]
            check_best_by(options.best_by, encoders)
            for photos in sets.values():
                asked_of(options.asked, len(photos), options.category.strip())
        except (ValueError, OSError, ConceptFileError) as error:
            return refused([Problem(0, printable(error))], out, as_json=options.json)
        try:
            if concepts:
                rows, best, said, grid = _concepts(options, concepts, reference, encoders)
                if grid is not None:
                    write_whole({options.grid: png_writer(grid)})
            for path, photos in sets.items():
                rows.append(_pictures(options, path, photos, others, reference, encoders))
        except (ValueError, OSError) as error:
            failed = Problem(0, printable(error))
    if rows and not options.json:
        out.write(score_table(rows) + (f"\n\n{said}" if said else "") + "\n")
    for row in rows if options.json else ():
        out.write(json.dumps({"event": "scores", **row.as_dict(), "notes": list(row.notes)}) + "\n")
    if failed is not None:
        refused([failed], out, as_json=options.json)
        return 1
    if options.json:
        end = {"event": "end", "best": best, "by": options.best_by, "text": said}
        out.write(json.dumps(end) + "\n")
    return 0


def _concepts(
    options: argparse.Namespace, concepts: Sequence[Any], reference: Reference, encoders: Any
) -> tuple[list[Scores], str, str, Image.Image | None]:
    """Rows of the model before training and of each concept, as Evaluate Concept has them; which is
    the best, what is said of it, and the pictures as a grid, if it is wanted."""
    columns = columns_of({"concepts": list(concepts)}, (), before=not options.no_before)
    named = options.concepts if options.no_before else ["before training", *options.concepts]
    names = labels_of(columns, "\n".join(named))
    settings = SamplerSettings(
        steps=options.steps,
        cfg=options.cfg,
        width=options.size,
        height=options.size,
        seed=options.seed,
    )
    shots = shots_of(options.lines, settings, options.images)
    wires = Models().wires(options.model)
    drawn = draw(wires, columns, shots, photo_of(columns, wires[2], reference, settings))
    figures = [list(figures) for figures in zip(*drawn, strict=True)]  # by column
    rows = scored(columns, names, figures, shots, reference, encoders)
    grid = None
    if options.grid is not None:
        firsts = range(0, len(shots), options.images)
        pictures = [[pictured(own[n]) for own in figures] for n in firsts]
        grid = to_picture(evaluation_grid(reference.photos, options.lines, pictures, names, _CELL))
    own = [n for n, column in enumerate(columns) if column.concept is not None]
    best = own[best_row([rows[n] for n in own], options.best_by)]
    return rows, names[best], verdict(rows, own, best, options.best_by), grid


def _pictures(
    options: argparse.Namespace,
    path: Path,
    pictures: Sequence[Photo],
    others: Sequence[Photo],
    reference: Reference,
    encoders: Any,
) -> Scores:
    """The row of a folder, as Score Images has it."""
    asked = asked_of(options.asked, len(pictures), options.category.strip())
    samples = [
        Sample(picture=_tensor(picture), text=text, context=rest)
        for picture, (text, rest) in zip(pictures, asked, strict=True)
    ]
    distractors = {None: [_tensor(other) for other in others]}
    return score(str(path), samples, reference, encoders, distractors)


def _reference(photos: Sequence[Photo], source: str) -> Reference:
    """The subject's photos. ValueError if some of them have a mask and others none."""
    bare = [printable(photo.name, 200) for photo in photos if photo.mask is None]
    if len(bare) not in (0, len(photos)):
        raise ValueError(
            f"--masks {source}: {bare[0]}"
            + (f" and {len(bare) - 1} more" if len(bare) > 1 else "")
            + f" of {len(photos)} photos have no mask: give each one, take these out of the folder "
            "of --photos, or leave --masks out"
        )
    masks = [photo.mask for photo in photos if photo.mask is not None]
    return Reference(
        photos=[_tensor(photo) for photo in photos],
        masks=[torch.from_numpy(np.asarray(mask, np.float32) / 255) for mask in masks],
    )


def _tensor(photo: Photo) -> Tensor:
    """(Y, X, 3) in 0..1."""
    return torch.from_numpy(np.asarray(photo.image.convert("RGB"), np.float32) / 255)
