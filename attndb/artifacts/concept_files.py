"""Concept files: what their tensors and metadata are called, and how a concept is read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .concept import (
    ConceptFileError,
    TrainedConcept,
    embedding_file_keys,
    embeddings_from_file,
    modules_from_file,
)
from .concept_record import OWN_KEYS, check_precision, check_values, parse_record
from .manager_metadata import network_metadata
from .tensor_file import Writer, read_metadata, read_tensors, tensors_writer
from .weight_delta import WeightDelta, delta_tensors
from .weight_file import delta_from_file_keys, file_names, weight_file_keys

RECORD_KEY = "attndb.record"


def concept_files(
    concept: TrainedConcept,
    title: str,
    embedding: Path,
    weights: Path,
    more: Mapping[str, str] | None = None,
) -> dict[Path, Writer]:
    """Writers of a concept's files: the embedding, and the weights if there are any. `more`:
    metadata beside the modelspec and the record."""
    digest = concept.digest()
    shared = bool(file_names(concept.delta, concept.base_family))
    record = {
        **concept.record,
        "format": 3 if shared else 2 if concept.modules else 1,
        "placeholder": concept.placeholder,
        "category": concept.category,
        "text_key": concept.text_key,
        "base_family": concept.base_family,
        "digest": digest,
        "has_weights": bool(concept.delta),
    }
    metadata = {
        **(more or {}),
        RECORD_KEY: json.dumps(record, sort_keys=True),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.trigger_phrase": concept.trigger,
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
        embedding: tensors_writer(
            embedding_file_keys(concept),
            {**metadata, "modelspec.architecture": f"{architecture}/textual-inversion"},
        )
    }
    if concept.delta:
        told = network_metadata(concept) if shared else {}
        files[weights] = tensors_writer(
            weight_file_keys(concept.delta, concept.base_family),
            {**told, **metadata, "modelspec.architecture": f"{architecture}/lora"},
        )
    return files


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a safetensors file's metadata; None if it has none. ConceptFileError names
    file, value and remedy if the file or the record is broken."""
    try:
        metadata = read_metadata(path)
    except (ValueError, OSError) as error:
        raise ConceptFileError.unreadable(path, error) from error
    if RECORD_KEY not in metadata:
        return None
    record = parse_record(metadata[RECORD_KEY], path.name)
    if "modelspec.thumbnail" in metadata:
        record["thumbnail"] = metadata["modelspec.thumbnail"]
    return record


def read_pair(embedding: Path, weights: Path | None) -> dict[str, Any]:
    """The record of a concept whose files are there and belong together, without their tensors.
    ConceptFileError says which file is missing, broken or foreign."""
    record = read_record(embedding)
    if record is None:
        raise ConceptFileError(
            f"{embedding.name} carries no record of this pack, so its placeholder and category are "
            "not known; use it as embedding:name in a prompt instead"
        )
    if not record["has_weights"]:
        return record
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
    return record


def load_concept(embedding: Path, weights: Path | None) -> TrainedConcept:
    """A concept from its files. ConceptFileError says which file is missing, broken or foreign."""
    record = read_pair(embedding, weights)
    word = _tensors(embedding)
    embeddings = embeddings_from_file(word, embedding.name)
    for name in embeddings:
        check_precision(f"{embedding.name}: {name}", word[name])
    modules = modules_from_file(word)
    delta: dict[str, WeightDelta] = {}
    if record["has_weights"]:
        assert weights is not None, "read_pair wants it"
        delta = delta_from_file_keys(_tensors(weights), weights.name)
    check_values({**delta_tensors(delta), **modules}, embedding.name, embeddings)
    text_key, *others = embeddings
    concept = TrainedConcept(
        placeholder=record["placeholder"],
        category=record["category"],
        text_key=text_key,
        vectors=embeddings[text_key],
        further={name: embeddings[name] for name in others},
        delta=delta,
        modules=modules,
        base_family=record["base_family"],
        record={key: value for key, value in record.items() if key not in OWN_KEYS},
    )
    if concept.digest() != record["digest"]:
        raise ConceptFileError(
            f"{embedding.name} or its weight file was changed after it was saved: restore the "
            "files, or use them with embedding:name and the stock Load LoRA node"
        )
    return concept


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path)[0]
    except (ValueError, OSError) as error:
        raise ConceptFileError.unreadable(path, error) from error
