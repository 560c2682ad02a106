"""Folders of the host: where concepts and trainings are kept."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths

from ...attndb.artifacts.concept_files import read_record
from ...attndb.artifacts.file_name import check_name
from ...attndb.data.scan import natural_key
from .file_state import files_state

log = logging.getLogger(__name__)

_UNWRITTEN = (".safetensors", ".pt", ".bin")
"""Endings that `embedding:name` leaves out."""
_MOST_KNOWN = 10_000
_known: dict[Path, tuple[tuple[int, int, int] | None, bool]] = {}


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


def latents_folder() -> Path:
    """Where encoded crops of photos are kept for the next training."""
    return run_folder("latents")


def _first(kind: str) -> Path:
    return Path(folder_paths.get_folder_paths(kind)[0])


def model_files(kind: str) -> list[str]:
    """The host's files of a kind, in natural order; none, and a log line, if they cannot be had."""
    try:
        return sorted(folder_paths.get_filename_list(kind), key=natural_key)
    except Exception as error:  # whatever a folder of somebody's has done to the host
        log.warning("models/%s cannot be listed: %s", kind, ascii(str(error)))
        return []


def files_called(name: str) -> list[Path]:
    """Files that a prompt or Load LoRA may take for those of this name, or these for them, in any
    folder of the host's. It looks for an embedding in every sub-folder too, in no order: beside
    `sd15/dog`, `embedding:dog` is one of the two, by chance."""
    ours = f"/{name}".casefold()
    found = []
    for file in model_files("embeddings"):
        whole = f"/{file}".replace("\\", "/").casefold()
        short = next((whole.removesuffix(e) for e in _UNWRITTEN if whole.endswith(e)), whole)
        if any(ours.endswith(theirs) or theirs.endswith(ours) for theirs in (whole, short)):
            found.append(folder_paths.get_full_path("embeddings", file))
    found.append(folder_paths.get_full_path("loras", f"{name}.safetensors"))
    return [Path(path) for path in found if path is not None]


def saved_concepts() -> list[str]:
    """Names of the embeddings that carry this pack's record, in natural order. A file that cannot
    be read costs itself a line in the log: the list is made while the host loads the nodes, and for
    every page that asks for them."""
    names = []
    for file in model_files("embeddings"):
        if not file.endswith(".safetensors"):
            continue
        try:
            path = folder_paths.get_full_path("embeddings", file)
            if path is not None and _carries_record(Path(path)):
                names.append(file.removesuffix(".safetensors"))
        except Exception as error:
            log.warning("models/embeddings/%s is passed over: %s", ascii(file), ascii(str(error)))
    return sorted(names, key=natural_key)


def _carries_record(path: Path) -> bool:
    """Whether a file has a usable record; asked of the file once, until it changes."""
    found = path.stat()
    state = (found.st_ino, found.st_size, found.st_mtime_ns)
    if _known.get(path, (None, None))[0] != state:
        _known[path] = (state, False)
        if len(_known) > _MOST_KNOWN:
            del _known[next(iter(_known))]
        _known[path] = (state, read_record(path) is not None)
    return bool(_known[path][1])


def concept_state(name: str) -> str:
    """Changes when the files of a saved concept do."""
    return files_state(lambda: [path for path in find_concept(name) if path is not None])


def find_concept(name: str) -> tuple[Path, Path | None]:
    """The embedding file and (if there is one) the weight file of a saved concept, whose name may
    have the separators of Windows, or the files' ending. Of several folders' weight files of the
    name the one that was saved with the embedding. ValueError if it can be no name."""
    name = check_name(name)
    embedding = folder_paths.get_full_path("embeddings", f"{name}.safetensors")
    if embedding is None:
        raise FileNotFoundError(
            f"no concept named {name!r} in models/embeddings: save one with Save Concept, or put "
            "its file there and refresh"
        )
    weights = [
        Path(root) / f"{name}.safetensors" for root in folder_paths.get_folder_paths("loras")
    ]
    there = [path for path in weights if path.is_file()]
    if len(there) > 1:
        own = _digest(Path(embedding))
        there = [path for path in there if own and _digest(path) == own] or there
    return Path(embedding), there[0] if there else None


def _digest(path: Path) -> str | None:
    """Of the concept that a file says it belongs to; None if it says none."""
    try:
        return (read_record(path) or {}).get("digest")
    except ValueError:
        return None
