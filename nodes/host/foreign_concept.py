"""A concept from files that other programs made, for the MODEL that is connected."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.lora
import folder_paths

from ...attndb.artifacts.concept import ConceptFileError, TrainedConcept
from ...attndb.artifacts.foreign_files import foreign_delta, read_foreign_embedding
from ...attndb.artifacts.tensor_file import read_tensors
from ...attndb.data.dataset import check_category, check_placeholder
from .model.families import family
from .paths import model_files

log = logging.getLogger(__name__)

NO_WEIGHTS = "(none)"
_PREFIX = "diffusion_model."
_TEXT_KEYS = {"SD 1.5": "clip_l", "SD 2.1-base": "clip_h", "SD 2.1-768": "clip_h"}


def foreign_embeddings() -> list[str]:
    """Files in models/embeddings, sorted."""
    return model_files("embeddings")


def foreign_loras() -> list[str]:
    """Files in models/loras that can be read without running code, after "none"."""
    return [NO_WEIGHTS, *(file for file in model_files("loras") if file.endswith(".safetensors"))]


def foreign_concept(
    model: Any, embedding: str, lora: str, placeholder: str, category: str
) -> TrainedConcept:
    """A concept of somebody else's embedding and LoRA; without a typed placeholder it has the name
    that the file gives it. ValueError names what does not fit and the remedy."""
    word = read_foreign_embedding(_path("embeddings", embedding))
    theirs = family(model)
    if _TEXT_KEYS.get(theirs) != word.text_key:
        raise ConceptFileError(
            f"{embedding} is an embedding for {word.text_key}, and this MODEL is {theirs}: connect "
            "a MODEL of its family"
        )
    placeholder = placeholder.strip() or word.token
    check_category(category)
    check_placeholder(placeholder, category)
    delta = {}
    if lora != NO_WEIGHTS:
        path = _path("loras", lora)
        try:
            tensors, _ = read_tensors(path)
        except (ValueError, OSError) as error:
            raise ConceptFileError(f"{lora}: {error}; restore the file") from error
        delta, text_keys = foreign_delta(tensors, _weights(model), path.name)
        if text_keys:
            log.warning(
                "%s: %d keys of the text encoder are left out: a concept changes the U-Net alone",
                ascii(lora),
                text_keys,
            )
    made_of = {"embedding": embedding, "lora": None if lora == NO_WEIGHTS else lora}
    return TrainedConcept(
        placeholder=placeholder,
        category=category,
        text_key=word.text_key,
        vectors=word.vectors,
        delta=delta,
        base_family=theirs,
        record={"imported": made_of, "stages": []},
    )


def _weights(model: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name and shape of every U-Net weight by the names that other programs have for it."""
    shapes = {name: tuple(value.shape) for name, value in model.model.state_dict().items()}
    return {
        theirs: (ours.removeprefix(_PREFIX), shapes[ours])
        for theirs, ours in comfy.lora.model_lora_keys_unet(model.model, {}).items()
        if isinstance(ours, str) and ours in shapes
    }


def _path(kind: str, name: str) -> Path:
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        raise FileNotFoundError(f"{name!r} is not in models/{kind}: put it there and refresh")
    return Path(found)
