"""Folders of the host: where photos come from and where concepts are kept."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...attndb.artifacts.concept import ConceptFileError
from ...attndb.artifacts.concept_files import read_record
from ...attndb.data.folder import IMAGE_SUFFIXES


def input_folders() -> list[str]:
    """Folders under the host's input directory that hold images, sorted, as relative paths."""
    root = Path(folder_paths.get_input_directory())
    found = set()
    if root.is_dir():
        for path in root.rglob("*"):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.parent != root:
                found.add(path.parent.relative_to(root).as_posix())
    return sorted(found)


def resolve_folder(text: str) -> Path:
    """A typed folder: absolute (~ and quotes are fine), else below the host's input directory."""
    typed = text.strip().strip("\"'").strip()
    if not typed:
        raise ValueError("folder is empty: choose one under input/, or type a path")
    path = Path(typed).expanduser()
    return path if path.is_absolute() else Path(folder_paths.get_input_directory()) / path


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
