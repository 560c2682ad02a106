"""Concept files on disk: safetensors with sorted metadata, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from .concept import (
    FORMAT_VERSION,
    ConceptFileError,
    TrainedConcept,
    delta_from_file_keys,
    vectors_from_file,
    weight_file_keys,
)

RECORD_KEY = "attndb.record"


def check_name(name: str) -> str:
    """A file name, possibly with sub-folders, that stays inside its folder. ValueError if not."""
    parts = name.replace("\\", "/").split("/")
    bad = (
        not name.strip()
        or len(name) > 200
        or any(
            part in ("", ".", "..")
            or part != part.strip(" .")
            or re.search(r'[<>:"|?*\x00-\x1f]', part)
            for part in parts
        )
    )
    if bad:
        raise ValueError(
            f"name {name!r} cannot be a file name: use letters, digits, '-', '_' and '/', without "
            "'..', e.g. my-sloth"
        )
    return "/".join(parts).removesuffix(".safetensors")


def encode_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with its header in sorted order: one content, one sequence of bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    raw = safetensors.torch.save(plain, dict(metadata))
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    ordered = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items()))}
    ordered.update(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


def write_whole(files: Mapping[Path, bytes]) -> None:
    """Writes several files so that a failure leaves none of them half-written.

    Each goes to a temporary neighbour first; only when all are complete are they renamed.
    OSError says which folder could not be written and what to do.
    """
    temporary: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}.part")
            temporary[path] = partial
            with partial.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
        for path, partial in temporary.items():
            os.replace(partial, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}: nothing was saved. Free space or allow writing, then "
            "queue again; the trained concept is still in memory",
            str(error.filename or next(iter(files)).parent),
        ) from error
    finally:
        for partial in temporary.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def concept_files(
    concept: TrainedConcept, title: str, embedding: Path, weights: Path
) -> dict[Path, bytes]:
    """The bytes of a concept's files: the embedding, and the weights if there are any."""
    digest = concept.digest()
    record = {
        **concept.record,
        "format": FORMAT_VERSION,
        "placeholder": concept.placeholder,
        "category": concept.category,
        "text_key": concept.text_key,
        "base_family": concept.base_family,
        "digest": digest,
        "has_weights": bool(concept.delta),
    }
    metadata = {
        RECORD_KEY: json.dumps(record, sort_keys=True),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.trigger_phrase": f"{concept.placeholder} {concept.category}",
        "modelspec.hash_sha256": f"0x{digest}",
        "modelspec.implementation": "AttnDreamBooth",
    }
    if concept.record.get("thumbnail"):
        metadata["modelspec.thumbnail"] = concept.record["thumbnail"]
        metadata[RECORD_KEY] = json.dumps(
            {key: value for key, value in record.items() if key != "thumbnail"}, sort_keys=True
        )
    architecture = concept.architecture
    files = {
        embedding: encode_safetensors(
            {concept.text_key: concept.vectors},
            {**metadata, "modelspec.architecture": f"{architecture}/textual-inversion"},
        )
    }
    if concept.delta:
        files[weights] = encode_safetensors(
            weight_file_keys(concept.delta),
            {**metadata, "modelspec.architecture": f"{architecture}/lora"},
        )
    return files


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a safetensors file's metadata; None if it has none."""
    try:
        with safetensors.safe_open(str(path), "pt") as handle:
            metadata = handle.metadata() or {}
    except Exception as error:  # the library raises its own kinds of error for a broken file
        raise ConceptFileError(
            f"{path.name} is not a readable safetensors file: {error}"
        ) from error
    if RECORD_KEY not in metadata:
        return None
    record = json.loads(metadata[RECORD_KEY])
    if "modelspec.thumbnail" in metadata:
        record["thumbnail"] = metadata["modelspec.thumbnail"]
    return record


def load_concept(embedding: Path, weights: Path | None) -> TrainedConcept:
    """A concept from its files. ConceptFileError says which file is missing, broken or foreign."""
    record = read_record(embedding)
    if record is None:
        raise ConceptFileError(
            f"{embedding.name} carries no record of this pack, so its placeholder and category are "
            "not known; use it as embedding:name in a prompt instead"
        )
    if record.get("format", 0) > FORMAT_VERSION:
        raise ConceptFileError(
            f"{embedding.name} was saved by a newer version of this pack: update"
        )
    text_key, vectors = vectors_from_file(
        safetensors.torch.load_file(str(embedding)), embedding.name
    )
    delta: dict[str, Tensor] = {}
    if record["has_weights"]:
        if weights is None or not weights.is_file():
            where = weights or f"{embedding.stem}.safetensors in models/loras"
            raise ConceptFileError(
                f"{embedding.name} belongs to a concept with weights, but {where} is missing: put "
                "it back, or save the concept again"
            )
        theirs = read_record(weights)
        if theirs is None or theirs.get("digest") != record["digest"]:
            raise ConceptFileError(
                f"{weights.name} in models/loras belongs to another concept than {embedding.name} "
                "in models/embeddings: the two files of one save belong together"
            )
        delta = delta_from_file_keys(safetensors.torch.load_file(str(weights)), weights.name)
    own = ("format", "placeholder", "category", "text_key", "base_family", "digest", "has_weights")
    return TrainedConcept(
        placeholder=record["placeholder"],
        category=record["category"],
        text_key=text_key,
        vectors=vectors,
        delta=delta,
        base_family=record["base_family"],
        record={key: value for key, value in record.items() if key not in own},
    )


def free_name(name: str, taken: Iterable[str]) -> str:
    """`name`, or `name-2`, `name-3`, ... : the first that is not taken."""
    taken = set(taken)
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate
