"""Folders of the host: where concepts and trainings are kept."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...attndb.artifacts.concept import ConceptFileError
from ...attndb.artifacts.concept_files import read_record


def embedding_folders() -> list[str]:
    """The host's folders of embeddings."""
    return list(folder_paths.get_folder_paths("embeddings"))


def embedding_path(name: str) -> Path:
    """Where an embedding of this name is saved: the host's first embeddings folder."""
    return _first("embeddings") / f"{name}.safetensors"


def weights_path(name: str) -> Path:
    """Where a weight file of this name is saved: the host's first loras folder."""
    return _first("loras") / f"{name}.safetensors"


def run_folder(name: str) -> Path:
    """Where a training of this name keeps its work, under the host's output directory."""
    return Path(folder_paths.get_output_directory()) / "attndb" / name


def _first(kind: str) -> Path:
    return Path(folder_paths.get_folder_paths(kind)[0])


def saved_concepts() -> list[str]:
    """Names of the embeddings that carry this pack's record, sorted."""
    names = []
    for file in folder_paths.get_filename_list("embeddings"):
        path = folder_paths.get_full_path("embeddings", file)
        if path is None or not file.endswith(".safetensors"):
            continue
        try:
            record = read_record(Path(path))
        except ConceptFileError:
            continue
        if record is not None:
            names.append(file.removesuffix(".safetensors"))
    return sorted(names)


def find_concept(name: str) -> tuple[Path, Path | None]:
    """The embedding file and (if there is one) the weight file of a saved concept."""
    embedding = folder_paths.get_full_path("embeddings", f"{name}.safetensors")
    if embedding is None:
        raise FileNotFoundError(
            f"no concept named {name!r} in models/embeddings: save one with Save Concept, or put "
            "its file there and refresh"
        )
    weights = folder_paths.get_full_path("loras", f"{name}.safetensors")
    return Path(embedding), None if weights is None else Path(weights)
