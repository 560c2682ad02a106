"""The record of a concept file: what it has to say, and what its tensors have to be.

A file may come from anywhere. ConceptFileError names the file, the value and what to do.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .concept import FORMAT_VERSION, ConceptFileError

OWN_KEYS = (
    *("format", "placeholder", "category", "text_key"),
    *("base_family", "digest", "has_weights"),
)
"""What the record says of the file itself; the rest is how the concept was made."""

_NEEDED = ("placeholder", "category", "base_family", "digest", "has_weights")
_EXACT = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LONGEST_WORDS = 200
"""Characters of a placeholder or a category: more is no word."""


def parse_record(text: str, file: str) -> dict[str, Any]:
    """A record from its text."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConceptFileError(
            f"{file}: its record cannot be read ({error}); save the concept again"
        ) from error
    if not isinstance(record, dict):
        raise ConceptFileError(
            f"{file}: its record is {_shown(record)}, not a table; save the concept again"
        )
    version = record.get("format", 0)
    if type(version) is int and version > FORMAT_VERSION:
        raise ConceptFileError(f"{file} was saved by a newer version of this pack: update")
    if lacking := [key for key in _NEEDED if key not in record]:
        raise ConceptFileError(
            f"{file}: its record lacks {', '.join(lacking)}; save the concept again"
        )
    if type(record["has_weights"]) is not bool or type(version) is not int:
        _refuse(file, "has_weights or format", (record["has_weights"], version), "true or false, 1")
    if not isinstance(record["digest"], str) or not isinstance(record["base_family"], str):
        _refuse(file, "digest or base_family", (record["digest"], record["base_family"]), "text")
    if not _is_word(record["placeholder"]) or any(c.isspace() for c in record["placeholder"]):
        _refuse(file, "placeholder", record["placeholder"], "one word such as <my-dog>")
    if not _is_word(record["category"]):
        _refuse(file, "category", record["category"], "a plain word such as dog")
    stages = record.get("stages", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        _refuse(file, "stages", stages, "a list of tables")
    return record


def _is_word(value: Any) -> bool:
    """Text with something to see in it, on one line, that can stand in a prompt."""
    return (
        isinstance(value, str)
        and value.strip() != ""
        and value == value.strip()
        and len(value) <= _LONGEST_WORDS
        and not any(unicodedata.category(c).startswith("C") for c in value)
        and not any(c in "(){}\\" for c in value)
    )


def check_values(
    tensors: Mapping[str, Tensor], file: str, embeddings: Mapping[str, Tensor]
) -> None:
    """ConceptFileError if a value is not finite, or an embedding has a zero vector."""
    for name, value in {**embeddings, **tensors}.items():
        check_precision(f"{file}: {name}", value)
        check_finite(f"{file}: {name}", value)
    for name, vectors in embeddings.items():
        if 0 in vectors.shape or bool((vectors == 0).all(dim=-1).any()):
            raise ConceptFileError(
                f"{file}: {name} holds an empty or zero vector, which is no word; restore the "
                "file, or train the concept again"
            )


def check_precision(where: str, value: Tensor) -> None:
    """ConceptFileError, beginning with `where`, unless the values are numbers as exact as weights
    are kept: those of fp8 and of whole numbers are no more than steps."""
    if value.dtype not in _EXACT:
        raise ConceptFileError(
            f"{where} holds {value.dtype}, which are no numbers of a weight, or too coarse ones: "
            "use a file in fp32, fp16 or bf16, or restore it from where it came"
        )


def check_finite(where: str, value: Tensor) -> None:
    """ConceptFileError, beginning with `where`, if a value is NaN or infinite."""
    if not bool(torch.isfinite(value.float()).all()):
        raise ConceptFileError(
            f"{where} holds NaN or infinite values, which draw blank pictures; restore the file, "
            "or train the concept again"
        )


def _refuse(file: str, what: str, value: Any, wanted: str) -> None:
    raise ConceptFileError(
        f"{file}: the record's {what} is {_shown(value)}, where {wanted} is needed; save the "
        "concept again"
    )


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
