"""A concept from files that other programs made, for the MODEL that is connected."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ...attndb.artifacts.clip_layer import RECORD_KEY, told_layer
from ...attndb.artifacts.concept import ConceptFileError, TrainedConcept
from ...attndb.artifacts.diffusers_unet import (
    SUBFOLDER,
    check_layout,
    prediction_type,
    read_unet,
    unet_delta,
)
from ...attndb.artifacts.foreign_files import (
    ForeignEmbedding,
    foreign_delta,
    read_foreign_embedding,
)
from ...attndb.artifacts.prediction_metadata import PREDICTIONS, told_prediction
from ...attndb.artifacts.tensor_file import SAFETENSORS, read_tensors
from ...attndb.artifacts.weight_delta import WeightDelta, dense
from ...attndb.config.family import FAMILIES
from ...attndb.config.printable import printable
from ...attndb.data.dataset import check_category, check_placeholder
from .diffusers_folders import KIND, embedding_below, embedding_choices, unet_choices, unet_file
from .file_state import files_state
from .model.diffusers_names import diffusers_places
from .model.families import family, sampling_identity
from .model.weights import UNET_PREFIX, delta_dtype, merged_weights, weight_shapes
from .paths import model_files
from .ui.status import show_text

log = logging.getLogger(__name__)

NO_WEIGHTS = "(none)"


def foreign_embeddings() -> list[str]:
    """Files in models/embeddings, sorted, then what lies in models/diffusers."""
    own = model_files("embeddings")
    return [*own, *(name for name in embedding_choices() if name not in own)]


def foreign_loras() -> list[str]:
    """Files in models/loras that can be read without running code, after "none"."""
    return [
        NO_WEIGHTS,
        *(file for file in model_files("loras") if file.lower().endswith(SAFETENSORS)),
    ]


def foreign_unets() -> list[str]:
    """U-Nets in diffusers' layout, after "none"."""
    return [NO_WEIGHTS, *unet_choices()]


def foreign_concept(
    model: Any,
    embedding: str,
    lora: str,
    placeholder: str,
    category: str,
    unet: str = NO_WEIGHTS,
) -> TrainedConcept:
    """A concept of somebody else's embedding and LoRA, or whole U-Net; without a typed placeholder
    it has the name that the file gives it. ValueError names what does not fit and the remedy."""
    if NO_WEIGHTS not in (lora, unet):
        raise ValueError(
            f"lora = {lora} and unet = {unet} are two changes of one U-Net: choose one of them, "
            "and put the other on the MODEL"
        )
    word = read_foreign_embedding(_embedding_path(embedding))
    theirs = family(model)
    _check_family(model, theirs, word, embedding)
    placeholder = placeholder.strip() or word.token
    check_category(category)
    check_placeholder(placeholder, category)
    made_of = {"embedding": embedding, "lora": None if lora == NO_WEIGHTS else lora}
    delta: dict[str, WeightDelta] = {}
    predicts: str | None = None
    layer: int | None = None
    if lora != NO_WEIGHTS:
        delta, predicts, layer = _of_lora(model, lora)
    if unet != NO_WEIGHTS:
        (delta, predicts), made_of["unet"] = _of_unet(model, unet), unet
    return TrainedConcept(
        placeholder=placeholder,
        category=category,
        text_key=word.text_key,
        vectors=word.vectors,
        further=dict(word.further),
        delta=delta,
        base_family=theirs,
        record={
            **({} if predicts is None else {"prediction_type": predicts}),
            **({} if layer is None else {RECORD_KEY: layer}),
            "imported": made_of,
            "stages": [],
        },
    )


def _check_family(model: Any, theirs: str, word: ForeignEmbedding, file: str) -> None:
    """ConceptFileError unless an embedding is for the text encoders of the MODEL's family."""
    wanted = FAMILIES[theirs].encoders if theirs in FAMILIES else None
    if wanted is None or wanted != tuple(word.widths):
        raise ConceptFileError(
            f"{file} is an embedding for {' and '.join(word.widths)}, and this MODEL is {theirs}: "
            "connect a MODEL of its family"
        )
    reads = model.model.model_config.unet_config["context_dim"]
    if len(wanted) > 1 and sum(word.widths.values()) != reads:
        raise ConceptFileError(
            f"{file} is an embedding of widths {word.widths}, and this MODEL ({theirs}) reads text "
            f"of width {reads}: connect a MODEL of its family"
        )


def foreign_state(embedding: object, lora: object, unet: object) -> str:
    """Changes when one of the files does. What comes over a wire is None here."""
    finders = ((_embedding_path, embedding), (partial(_path, "loras"), lora), (unet_file, unet))
    states = [
        files_state(lambda find=find, name=name: [find(name)])
        for find, name in finders
        if isinstance(name, str) and name not in ("", NO_WEIGHTS)
    ]
    return repr(states)


def _of_lora(model: Any, lora: str) -> tuple[dict[str, WeightDelta], str | None, int | None]:
    """The change, and what the file says that it makes the MODEL predict, and with which layer of
    CLIP it was trained."""
    path = _path("loras", lora)
    try:
        tensors, metadata = read_tensors(path)
    except (ValueError, OSError) as error:
        raise ConceptFileError.unreadable(path, error) from error
    told, has = told_prediction(metadata), sampling_identity(model)["prediction_type"]
    if told not in (None, has):
        raise ConceptFileError(
            f"{lora} is of a model that predicts {told}, as its metadata says, and this MODEL "
            f"predicts {has}: connect a MODEL that predicts {told}. If the file is wrong, put it "
            "on the MODEL with the stock Load LoRA, and choose no lora here"
        )
    delta, text_keys = foreign_delta(tensors, _weights(model), path.name, metadata)
    if text_keys:
        left_out = (
            f"{printable(lora, 200)}: {text_keys} keys of the text encoder are left out, for a "
            "concept changes the U-Net alone. For what they do, put the file on CLIP too: the "
            "stock Load LoRA with strength_model 0, in front of Apply Concept"
        )
        log.warning("%s", left_out)
        show_text(left_out)
    return delta, told, told_layer(metadata, family(model))


def _of_unet(model: Any, unet: str) -> tuple[dict[str, WeightDelta], str | None]:
    """What a U-Net in diffusers' layout has otherwise than the MODEL on the wire, which it was
    trained from, and what that predicts."""
    path = unet_file(unet)
    places = diffusers_places(model)
    tensors = read_unet(path)
    check_layout(tensors, places, unet, family(model))
    folder = path.parent.parent if path.parent.name == SUBFOLDER else path.parent
    told, has = prediction_type(folder, path), sampling_identity(model)["prediction_type"]
    if told not in (None, has):
        raise ConceptFileError(
            f"{unet} predicts {told}, as its scheduler or its metadata says, and this MODEL "
            f"predicts {has}: connect the checkpoint that it was trained from"
        )
    with torch.inference_mode(False), torch.no_grad():
        base = merged_weights(model, UNET_PREFIX)
        whole = _norm(base.values())
        delta = unet_delta(
            tensors,
            places,
            base,
            stored=model.model.get_dtype(),
            dtype=delta_dtype(model),
            file=unet,
            check=comfy.model_management.throw_exception_if_processing_interrupted,
        )
        share = _norm(map(dense, delta.values())) / whole
    log.info(
        "%s: %d of %d weights are not the MODEL's; they differ by %.2g %% of its norm",
        ascii(unet),
        len(delta),
        len(places),
        100 * share,
    )
    return delta, PREDICTIONS.get(has)


def _norm(tensors: Iterable[Tensor]) -> float:
    """Of all values together."""
    return math.sqrt(sum(float(value.norm()) ** 2 for value in tensors))


def _weights(model: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name and shape of every U-Net weight by the names that other programs have for it: the host's
    table, which lacks diffusers' own since PEFT (`unet.<path>`), and these."""
    shapes = weight_shapes(model)
    named = comfy.lora.model_lora_keys_unet(model.model, {})
    for theirs, ours in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items():
        if theirs.endswith(".weight"):
            named[f"unet.{theirs.removesuffix('.weight')}"] = f"{UNET_PREFIX}{ours}"
    return {
        theirs: (ours.removeprefix(UNET_PREFIX), shapes[ours])
        for theirs, ours in named.items()
        if isinstance(ours, str) and ours in shapes
    }


def _embedding_path(name: str) -> Path:
    below = name.startswith(f"{KIND}/")
    if below and folder_paths.get_full_path("embeddings", name) is None:
        return embedding_below(name)
    return _path("embeddings", name)


def _path(kind: str, name: str) -> Path:
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        raise FileNotFoundError(f"{name!r} is not in models/{kind}: put it there and refresh")
    return Path(found)
