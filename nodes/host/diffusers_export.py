"""A concept as a folder that diffusers loads: the embedding, and the MODEL's U-Net with it."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from torch import Tensor

from ...attndb.artifacts.clip_layer import layers_skipped
from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.artifacts.diffusers_unet import SUBFOLDER, WEIGHT_FILES
from ...attndb.artifacts.folder_claim import claim_folder, folder_holds
from ...attndb.artifacts.partial_files import remove_stale_partial_files
from ...attndb.artifacts.prediction_metadata import KEY as PREDICTION_KEY
from ...attndb.artifacts.tensor_file import tensors_writer, text_writer
from .model.concept_patches import apply_to_model
from .model.diffusers_names import diffusers_config, diffusers_places
from .model.families import check_no_injections, sampling_identity
from .model.weights import UNET_PREFIX, delta_dtype, merged_weights

log = logging.getLogger(__name__)

EMBEDDING_FILE = "learned_embeds.safetensors"
_README = """# `{trigger}`

{family}, predicts {prediction}; {dtype}. For diffusers:

```python
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

unet = UNet2DConditionModel.from_pretrained({name!r}, subfolder="unet", torch_dtype=torch.{dtype})
# text encoder and VAE are those of the checkpoint that the graph loaded
pipe = StableDiffusionPipeline.from_single_file("CHECKPOINT", unet=unet, torch_dtype=torch.{dtype})
{scheduler}pipe.load_textual_inversion({name!r}, weight_name="learned_embeds.safetensors")
pipe({prompt!r}{skip}).images[0]
```
"""

_README_SDXL = """# `{trigger}`

{family}, predicts {prediction}; {dtype}. For diffusers:

```python
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file

unet = UNet2DConditionModel.from_pretrained({name!r}, subfolder="unet", torch_dtype=torch.{dtype})
# text encoders and VAE are those of the checkpoint that the graph loaded
pipe = StableDiffusionXLPipeline.from_single_file(
    "CHECKPOINT", unet=unet, torch_dtype=torch.{dtype}
)
{scheduler}word = load_file({name!r} + "/learned_embeds.safetensors")
for key, encoder, tokenizer in (
    ("clip_l", pipe.text_encoder, pipe.tokenizer),
    ("clip_g", pipe.text_encoder_2, pipe.tokenizer_2),
):
    pipe.load_textual_inversion(
        word[key], token={placeholder!r}, text_encoder=encoder, tokenizer=tokenizer
    )
pipe({prompt!r}{skip}).images[0]
```
"""
_SCHEDULER = """# what it predicts, which diffusers cannot see in every checkpoint
pipe.scheduler = type(pipe.scheduler).from_config(
    pipe.scheduler.config, prediction_type={told!r}
)
"""
"""Without it a pipeline of SD 2.1-base is taken for one of 2.1-768, which predicts v, and an SDXL
that predicts v for one that does not."""
_TOLD = {"epsilon": "epsilon", "v": "v_prediction"}
"""diffusers' words. A sampling node's other kinds have none."""
_FORMAT = {"format": "pt"}
"""What diffusers and transformers want to be told of a safetensors file."""


def export_folder(name: str) -> Path:
    """Where a concept is exported to, under the host's output directory."""
    return Path(folder_paths.get_output_directory()) / "diffusers" / name


def export_to_diffusers(
    model: Any, concept: TrainedConcept, wanted: str, dtype: torch.dtype | None
) -> Path:
    """Writes the folder and returns where: under the wanted name if that is free or holds this very
    export, else under the next free one, `wanted-2`, `wanted-3`, ...

    dtype: of the U-Net; None: fp32 for a MODEL in fp32, else fp16. ValueError names what cannot be
    exported, OSError the file that could not be written.
    """
    for path in remove_stale_partial_files(export_folder(wanted).parent):
        log.info("removed %s, which a process that has ended left", path)
    if concept.modules:
        method = (concept.record.get("stages") or [{}])[-1].get("method")
        raise ValueError(
            f"the concept {concept.placeholder} is no export: diffusers has no place for what "
            f"{method} adds to the model. Use it with Apply Concept, or export a concept of "
            "another method"
        )
    dtype = dtype or delta_dtype(model)
    weights = _unet(model, concept, dtype)
    predicts = {PREDICTION_KEY: sampling_identity(model)["prediction_type"]}
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        folder = export_folder(name)
        files = {
            "README.md": text_writer(_readme(model, concept, name, dtype)),
            EMBEDDING_FILE: tensors_writer(_word(concept), _FORMAT),
            f"{SUBFOLDER}/config.json": text_writer(_text(diffusers_config(model))),
            f"{SUBFOLDER}/{WEIGHT_FILES[0]}": tensors_writer(weights, {**_FORMAT, **predicts}),
        }
        if folder_holds(folder, files) or claim_folder(folder, files):
            return folder
    raise AssertionError("there is always a next name")


def _word(concept: TrainedConcept) -> dict[str, Tensor]:
    """By the placeholder; of SDXL by the text encoder, for its two tokenizers are told apart."""
    if concept.further:
        return concept.embeddings
    return {concept.placeholder: concept.vectors}


def _unet(model: Any, concept: TrainedConcept, dtype: torch.dtype) -> dict[str, Tensor]:
    """The MODEL's U-Net with the concept, by diffusers' names."""
    places = diffusers_places(model)
    check_no_injections(model, None)
    with torch.inference_mode(False), torch.no_grad():
        merged = merged_weights(apply_to_model(model, concept, 1.0), UNET_PREFIX)
        weights = {}
        for theirs, (ours, _) in places.items():
            comfy.model_management.throw_exception_if_processing_interrupted()
            weights[theirs] = _cast(merged.pop(ours), dtype, ours)
    return weights


def _cast(value: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            f"{name} of MODEL with the concept holds NaN or infinite values: connect a sound "
            "checkpoint, and a concept that draws pictures"
        )
    cast = value.to(dtype)
    if not bool(torch.isfinite(cast).all()):
        raise ValueError(
            f"{name} of MODEL with the concept has values beyond {_shown(dtype)}'s: choose fp32 "
            "or bf16 as precision"
        )
    return cast


def _readme(model: Any, concept: TrainedConcept, name: str, dtype: torch.dtype) -> str:
    text, skipped = _README_SDXL if concept.further else _README, layers_skipped(concept)
    predicts = sampling_identity(model)["prediction_type"]
    told = _TOLD.get(predicts)
    return text.format(
        placeholder=concept.placeholder,
        trigger=concept.trigger,
        family=concept.base_family,
        prediction=predicts,
        scheduler="" if told is None else _SCHEDULER.format(told=told),
        dtype=_shown(dtype),
        name=name.rpartition("/")[2],
        prompt=f"a photo of a {concept.trigger}",
        skip=f", clip_skip={skipped}" if skipped > 0 else "",
    )


def _shown(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _text(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
