"""TrainedConcept: what training made of one subject, and the record of how.

The embedding goes into a file for ComfyUI's `embedding:name`, the weight change into one for the
stock LoRA loader; both carry the record in their safetensors metadata.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.family import FAMILIES
from .digest import tensors_digest
from .weight_delta import (
    WeightDelta,
    add_deltas,
    cast_deltas,
    delta_tensors,
    in_main_memory,
)

FORMAT_VERSION = 3
"""2: the embedding file may hold modules. 3: the weight file may have kohya's names."""

CLIP_NAMES = ("clip_l", "clip_h", "clip_g")
"""Text encoders, by which an embedding file names its vectors."""
_PAIRS = (("clip_l", "clip_g"),)
"""Encoders that one model reads together, in the order of its text states."""
MODULE_PREFIX = "attndb."
"""Of what an embedding file holds beside its vectors."""


class ConceptFileError(ValueError):
    """A concept file that cannot be used; the message names the file and what is wrong."""

    @classmethod
    def unreadable(cls, path: Path, error: Exception) -> ConceptFileError:
        """From what reading a file said, which may have named it."""
        text = str(error)
        named = text if path.name in text else f"{path.name}: {text}"
        return cls(f"{named}; restore the file from where it came")


@dataclass(frozen=True, kw_only=True)
class TrainedConcept:
    """A subject the model has learned. Nothing in it is changed after it is made.

    Its tensors are in main memory, whatever it is made of: on a card they would hold memory between
    the nodes, and what works on them (extraction, correction, files) meets the CPU's.
    """

    placeholder: str
    """The word that stands for it in prompts, e.g. `<my-sloth>`."""
    category: str
    """Its super-category, e.g. `sloth`."""
    text_key: str
    """Which text encoder the vectors belong to: `clip_l` or `clip_h`; of several the first."""
    vectors: Tensor
    """The placeholder's embedding, fp32."""
    further: dict[str, Tensor] = field(default_factory=dict)
    """As many vectors for each further text encoder of the model, by its name (SDXL: `clip_g`)."""
    delta: dict[str, WeightDelta] = field(default_factory=dict)
    """Weight change of the U-Net by parameter name; only what was trained."""
    modules: dict[str, Tensor] = field(default_factory=dict)
    """Weights of what its method adds to the model, e.g. NeTI's mapper, fp32."""
    base_family: str = ""
    """Family of the base model, e.g. `SD 1.5`."""
    record: dict[str, Any] = field(default_factory=dict)
    """How it was made: base hash, prompt, tied token, one entry per stage with its settings."""

    def __post_init__(self) -> None:
        own: dict[str, Any] = {
            "vectors": self.vectors.cpu(),
            "further": {name: value.cpu() for name, value in self.further.items()},
            "delta": {name: in_main_memory(change) for name, change in self.delta.items()},
            "modules": {name: value.cpu() for name, value in self.modules.items()},
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)

    @property
    def embeddings(self) -> dict[str, Tensor]:
        """The placeholder's vectors (V, D) by text encoder, in the model's order."""
        return {self.text_key: self.vectors, **self.further}

    def with_stage(
        self,
        vectors: Tensor,
        delta: Mapping[str, WeightDelta],
        stage: Any,
        embeddings: Mapping[str, Tensor] | None = None,
        modules: Mapping[str, Tensor] | None = None,
    ) -> TrainedConcept:
        """The concept after one more stage: new vectors, changes added up, the stage recorded.

        The sum keeps the precision of `delta`'s tensors. `embeddings`: the new
        vectors of all text encoders, where there are several; None leaves the others' as they are.
        """
        summed = dict(self.delta)
        for name, change in delta.items():
            summed[name] = add_deltas(summed.get(name), change)
        stages = [*self.record.get("stages", []), stage]
        others = {k: v for k, v in (embeddings or {}).items() if k != self.text_key}
        return dataclasses.replace(
            self,
            vectors=vectors,
            further=others or self.further,
            delta=summed,
            modules={**self.modules, **(modules or {})},
            record={**self.record, "stages": stages},
        )

    def with_record(self, record: Mapping[str, Any]) -> TrainedConcept:
        """The same concept with another record."""
        return dataclasses.replace(self, record=dict(record))

    def with_precision(self, dtype: torch.dtype) -> TrainedConcept:
        """The same concept with its weight change in another precision."""
        delta = cast_deltas(self.delta, dtype)
        return dataclasses.replace(self, delta=delta)

    def digest(self) -> str:
        """SHA-256 of the vectors, the weight change and the modules; worked out once."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        modules = {f"{MODULE_PREFIX}{name}": value for name, value in self.modules.items()}
        tensors = {"": self.vectors, **self.further, **delta_tensors(self.delta), **modules}
        return tensors_digest(tensors)

    @property
    def trigger(self) -> str:
        """The words to write in prompts: `<placeholder> category`, or the placeholder alone where
        it was trained so."""
        return trigger_words(self.placeholder, self.category, self.record)

    @property
    def architecture(self) -> str:
        """The base model's name in the modelspec standard."""
        known = FAMILIES.get(self.base_family)
        return known.architecture if known and known.architecture else self.base_family


def trigger_words(placeholder: str, category: str, record: Mapping[str, Any]) -> str:
    """What to write in prompts, by a concept's record: both words, or the placeholder alone."""
    stages = record.get("stages") or [{}]
    words = stages[-1].get("words") if isinstance(stages[-1], dict) else None
    if isinstance(words, dict) and words.get("with_category") is False:
        return placeholder
    return f"{placeholder} {category}"


def embedding_file_keys(concept: TrainedConcept) -> dict[str, Tensor]:
    """Vectors and modules under the names of an embedding file. The host takes the vectors by the
    text encoder's name and leaves the rest."""
    modules = {f"{MODULE_PREFIX}{name}": value for name, value in concept.modules.items()}
    return {**concept.embeddings, **modules}


def modules_from_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The modules of an embedding file."""
    return {
        key.removeprefix(MODULE_PREFIX): value
        for key, value in tensors.items()
        if key.startswith(MODULE_PREFIX)
    }


def embeddings_from_file(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Vectors (V, D) of an embedding file by text encoder, in the model's order. ConceptFileError
    on other keys."""
    tensors = {key: t for key, t in tensors.items() if not key.startswith(MODULE_PREFIX)}
    keys = sorted(tensors)
    names = next((pair for pair in _PAIRS if sorted(pair) == keys), tuple(keys[:1]))
    shaped = all(value.ndim == 2 for value in tensors.values())
    alike = len({len(value) for value in tensors.values()}) == 1 if shaped else False
    if len(names) != len(keys) or not set(names) <= set(CLIP_NAMES) or not alike:
        pairs = " or ".join(" and ".join(pair) for pair in _PAIRS)
        raise ConceptFileError(
            f"{file}: unknown keys {', '.join(keys[:4]) or '(none)'}; a concept embedding holds "
            f"one of {', '.join(CLIP_NAMES)} with shape (vectors, width), or {pairs} with as many "
            "vectors each"
        )
    return {name: tensors[name].float() for name in names}
