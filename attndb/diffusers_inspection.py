"""What a folder in diffusers' layout holds: the U-Net, learned embeddings and the other parts.

A folder that *Export to Diffusers* wrote is one, so is a pipeline that `save_pretrained` wrote, its
`unet` folder, and the published code's output.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .artifacts.concept import ConceptFileError
from .artifacts.diffusers_unet import (
    SUBFOLDER,
    WEIGHT_FILES,
    prediction_type,
    read_unet,
    unet_family,
    weight_file,
)
from .artifacts.foreign_files import read_foreign_embedding
from .artifacts.tensor_header import read_header
from .config.printable import printable

PICKLES = (".bin", ".pt")
"""Ends of names of embeddings that PyTorch pickled; no code in them is run."""
_EMBEDDINGS = "learned_embeds*"
_LARGEST_CONFIG = 1_000_000
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


def is_diffusers(folder: Path) -> bool:
    """Whether a folder has something of diffusers' layout in it."""
    places = (folder, folder / SUBFOLDER)
    unet = any((place / name).exists() for place in places for name in WEIGHT_FILES)
    named = (folder / "model_index.json", folder / SUBFOLDER / "config.json")
    return unet or any(path.exists() for path in named) or bool(_embeddings(folder))


def diffusers_facts(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the folder holds, and what is wrong with it, a line each."""
    facts: dict[str, Any] = {}
    problems: list[str] = []
    unet = (folder / SUBFOLDER).is_dir() or any((folder / name).exists() for name in WEIGHT_FILES)
    if unet:
        weights = None
        try:
            weights = weight_file(folder)
            facts[SUBFOLDER] = _unet(folder, weights)
        except (OSError, ValueError) as error:
            problems.append(printable(str(error)))
        problems += _config_problems(folder)
        facts["prediction_type"] = prediction_type(folder, weights) or "not said"
    embeddings = {}
    for path in _embeddings(folder):
        try:
            embeddings[printable(path.name)] = embedding_facts(path)
        except (OSError, ValueError) as error:
            problems.append(printable(str(error)))
    if embeddings:
        facts["embeddings"] = embeddings
    parts = sorted(p.name for p in folder.iterdir() if (p / "config.json").is_file())
    if others := [printable(name) for name in parts if name != SUBFOLDER]:
        facts["other_parts"] = others
    if not unet and not embeddings and not problems:
        problems.append(f"a pipeline without {SUBFOLDER}/{WEIGHT_FILES[0]}: nothing to import")
    return facts, problems


def embedding_facts(path: Path) -> dict[str, Any]:
    """Word, vectors and width of an embedding that another program saved. ConceptFileError names
    the file and what is wrong with it."""
    found = read_foreign_embedding(path)
    vectors, width = found.vectors.shape
    word = printable(found.token) if found.token else "not said"
    return {"word": word, "vectors": vectors, "width": width, "text_encoder": found.text_key}


def _embeddings(folder: Path) -> list[Path]:
    ends = (*PICKLES, ".safetensors")
    return sorted(p for p in folder.glob(_EMBEDDINGS) if p.suffix.lower() in ends)


def _unet(folder: Path, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConceptFileError(f"{path.name} is no file: restore it")
    if path.suffix == ".safetensors":
        try:
            header = read_header(path)
        except ValueError as error:
            raise ConceptFileError.unreadable(path, error) from error
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        types = {str(entry["dtype"]) for entry in header.values()}
    else:
        tensors = read_unet(path)
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        names = (str(value.dtype).removeprefix("torch.") for value in tensors.values())
        types = {_TYPES.get(name, name) for name in names}
    return {
        "file": path.relative_to(folder).as_posix(),
        "weights": len(shapes),
        "bytes": path.stat().st_size,
        "precision": ", ".join(sorted(types)) or "none",
        "family": unet_family(shapes) or "not known",
    }


def _config_problems(folder: Path) -> list[str]:
    inner = folder / SUBFOLDER
    path = (inner if inner.is_dir() else folder) / "config.json"
    shown = path.relative_to(folder).as_posix()
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            return [f"{shown} is larger than 1 MB, which no configuration is"]
        if isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
            return []
        return [f"{shown} holds no JSON object"]
    except FileNotFoundError:
        return [f"{shown} is missing: diffusers cannot load the folder"]
    except (ValueError, OSError, RecursionError) as error:
        return [printable(f"{shown} is not JSON: {error}")]
