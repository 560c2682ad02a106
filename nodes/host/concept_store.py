"""A concept among the host's models: a name for it, its files as one, nobody else's touched."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import torch

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.artifacts.concept_files import concept_files, read_record
from ...attndb.artifacts.manager_metadata import (
    manager_metadata,
    preview_writer,
    without_photos,
)
from ...attndb.artifacts.name_claim import claim_whole, differs_in_case, holds
from ...attndb.artifacts.partial_files import remove_stale_partial_files
from ...attndb.artifacts.tensor_file import FILE_PRECISIONS, Writer, write_whole
from ...attndb.artifacts.weight_delta import delta_tensors
from ...attndb.config.choices import require_choice
from ...attndb.jobs.job import SavedMetadata
from ...attndb.training.unkept_results import UNKEPT
from .paths import embedding_path, files_called, weights_path

log = logging.getLogger(__name__)

PRECISIONS = {"as trained": None, **FILE_PRECISIONS}
"""Of a weight file."""
METADATA = get_args(SavedMetadata)
"""What the files tell of the training."""


def save_concept_as(concept: TrainedConcept, wanted: str, precision: str, metadata: str) -> str:
    """`save_concept` in one of PRECISIONS, with one of METADATA. ValueError for another one, and
    for a precision that does not reach to the concept's values: the files could not be loaded."""
    require_choice("precision", precision, tuple(PRECISIONS))
    require_choice("metadata", metadata, METADATA)
    if (dtype := PRECISIONS[precision]) is not None:
        concept = concept.with_precision(dtype)
        for name, value in delta_tensors(concept.delta).items():
            if not bool(torch.isfinite(value).all()):
                raise ValueError(
                    f"precision = {precision}: {name} of the concept {concept.placeholder} has "
                    f"values beyond {precision}'s, or that are no numbers: choose fp32 or bf16"
                )
    if metadata == "no photos":
        concept = without_photos(concept)
    return save_concept(concept, wanted, for_managers=metadata == "for managers")


def save_concept(concept: TrainedConcept, wanted: str, *, for_managers: bool = False) -> str:
    """Saves the concept and returns the name it has: the wanted one if it is free in all folders
    of the host's or this very concept's, else the next free one, `wanted-2`, `wanted-3`, ... Of
    several servers that save under one name at the same moment each gets a name of its own.

    A file that holds already what would be written is not written again. `for_managers`: with more
    metadata, and a picture beside each file. OSError names the file that could not be written, its
    folder's free space and what to do.
    """
    for folder in {embedding_path(wanted).parent, weights_path(wanted).parent}:
        for path in remove_stale_partial_files(folder):
            log.info("removed %s, which a process that has ended left", path)
    for name in _candidates(wanted):
        if _saved_as(concept, name, manager_metadata(concept) if for_managers else {}):
            UNKEPT.release_saved(concept.record)
            if for_managers:
                _save_previews(concept, name)
            return name
    raise AssertionError("there is always a next name")


def _candidates(wanted: str) -> Iterator[str]:
    yield wanted
    for number in itertools.count(2):
        yield f"{wanted}-{number}"


def _saved_as(concept: TrainedConcept, name: str, more: Mapping[str, str]) -> bool:
    """Saves under this name unless it is another's; whether it is this concept's now."""
    embedding, weights = embedding_path(name), weights_path(name)
    files = concept_files(concept, name, embedding, weights, more)
    if differs_in_case(embedding) or differs_in_case(weights):
        return False  # on another system, or another disk, it would be the same file
    there = [path for path in (weights, embedding) if path.exists()]
    if not there:
        if not all(_is_of(concept, path) for path in files_called(name)):
            return False  # one of the two would be drawn where the other is asked for
        return claim_whole(_embedding_last(files, embedding))
    if not all(_is_of(concept, path) for path in there) or not set(there) <= set(files):
        return False
    left = {path: write for path, write in files.items() if not holds(path, write)}
    for path in [path for path in left if path in there]:
        write_whole({path: left.pop(path)})  # damaged, or from another version of the pack
    return not left or claim_whole(_embedding_last(left, embedding))


def _save_previews(concept: TrainedConcept, name: str) -> None:
    """`<file>.preview.png` beside each file; a picture that somebody put there stays."""
    write = preview_writer(concept)
    paths = [embedding_path(name), *([weights_path(name)] if concept.delta else [])]
    if write is None:
        return
    for path in paths:
        claim_whole({path.with_name(f"{path.stem}.preview.png"): write})


def _embedding_last(files: Mapping[Path, Writer], embedding: Path) -> dict[Path, Writer]:
    """The embedding is what Load Concept lists: with it the concept is there."""
    return dict(sorted(files.items(), key=lambda item: item[0] == embedding))


def _is_of(concept: TrainedConcept, path: Path) -> bool:
    """Whether a file says that it belongs to this very concept."""
    try:
        record = read_record(path)
    except ValueError:
        return False
    return record is not None and all(
        record.get(key) == value
        for key, value in (
            ("digest", concept.digest()),
            ("placeholder", concept.placeholder),
            ("category", concept.category),
        )
    )
