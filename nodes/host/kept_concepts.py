"""Concepts that trainings keep on the way, among the host's models: `attndb/<run>/step-00050`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.artifacts.concept_files import read_record
from ...attndb.artifacts.training_path import TrainingPath, training_path
from ...attndb.data.scan import natural_key
from .concept_store import save_concept
from .file_state import file_state, files_state
from .paths import embedding_path, weights_path

_FOLDER, _FILES = "attndb", "step-*.safetensors"
_KNOWN = 256


def keep_checkpoint(concept: TrainedConcept, run: str, done: int, most: int) -> str:
    """Saves the concept of a training that goes on, as `attndb/<run>/step-00050`, and removes the
    run's oldest beyond `most`; its name. Only files that say they are such concepts are removed."""
    name = save_concept(concept, f"{_FOLDER}/{run}/step-{done:05d}")
    found = embedding_path(name).parent.glob(_FILES)
    ours = [p for p in sorted(found, key=lambda p: natural_key(p.stem)) if _is_checkpoint(p)]
    for path in ours[: max(0, len(ours) - most)]:
        path.unlink()  # first: Load Concept lists it by this file
    for weights in weights_path(name).parent.glob(_FILES):  # also what a crash left behind
        listed = embedding_path(f"{_FOLDER}/{run}/{weights.stem}")
        if not listed.is_file() and _is_checkpoint(weights):
            weights.unlink()
    return name


def kept_on_the_way(whole: TrainingPath, *, all_stages: bool) -> list[str]:
    """Names, as Load Concept has them, of the concepts that were kept on the way to one with this
    path, in the order of their steps; without `all_stages` those of its last stage."""
    least = 1 if all_stages else len(whole.stages)
    found: dict[tuple[int, int], str] = {}  # one that was kept from two runs is there once
    for path in sorted(_kept_folder().glob(f"*/{_FILES}")):
        own = _path_of(path)
        if own is not None and own.is_on_the_way_to(whole) and len(own.stages) >= least:
            found.setdefault((len(own.stages), own.steps), _name(path))
    return [found[place] for place in sorted(found)]


def kept_state(whole: TrainingPath, all_stages: bool) -> str:
    """Changes when one of these concepts comes or goes, or its files change."""

    def files() -> list[Path]:
        names = kept_on_the_way(whole, all_stages=all_stages)
        paths = [path for name in names for path in (embedding_path(name), weights_path(name))]
        return [path for path in paths if path.is_file()]

    return files_state(files)


def _kept_folder() -> Path:
    return embedding_path(_FOLDER).with_suffix("")


def _name(path: Path) -> str:
    return path.relative_to(_kept_folder().parent).with_suffix("").as_posix()


def _is_checkpoint(path: Path) -> bool:
    try:
        return _says_so(read_record(path))
    except ValueError:
        return False


def _says_so(record: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether a record is of a concept that was kept on the way."""
    return record is not None and "after_steps" in (record.get("stages") or [{}])[-1]


def _path_of(file: Path) -> TrainingPath | None:
    """Of a file that says it was kept on the way; None for any other."""
    try:
        return _read_path(file, file_state(file))
    except (OSError, ValueError):  # removed at this moment, or no file of ours
        return None


@lru_cache(maxsize=_KNOWN)
def _read_path(file: Path, state: object) -> TrainingPath | None:
    """`state`: of the file, so that it is read once until it changes."""
    record = read_record(file)
    if not _says_so(record):
        return None
    return training_path(record["placeholder"], record["category"], record)
