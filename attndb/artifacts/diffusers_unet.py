"""U-Nets in diffusers' layout: found in a folder, read without running code, taken off a base.

`<folder>/unet/` holds `config.json` and one file of weights, safetensors or pickled; so does the
reference implementation's `checkpoint-<step>/`. Names and shapes are diffusers' own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

import torch
from torch import Tensor

from ..config.family import SD15, SDXL
from .concept import ConceptFileError
from .concept_record import check_finite, check_precision
from .pickled_tensors import read_pickled
from .prediction_metadata import PREDICTIONS, file_prediction
from .tensor_file import SAFETENSORS, read_tensors
from .weight_delta import WeightDelta

SUBFOLDER = "unet"
WEIGHT_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
"""Names that diffusers gives the weights; the most exact and safest first."""
UNET_CLASS = "UNet2DConditionModel"
"""What diffusers' config of a U-Net says that it is of."""
_LARGEST = 16_000_000_000
_LARGEST_CONFIG = 1_000_000
_WIDTHS = {768: SD15.name, 1024: "SD 2.x", 1280: "SDXL refiner", 2048: SDXL.name}
_TEXT_KEY = ".attn2.to_k.weight"

Place = tuple[str, tuple[int, ...]]
"""Name and shape of a weight of ours."""


def weight_file(folder: Path) -> Path:
    """The U-Net's weights in a diffusers folder, or in the `unet` folder itself. ConceptFileError
    if there are none."""
    places = (folder / SUBFOLDER, folder)
    for place in places:
        for name in WEIGHT_FILES:
            if (place / name).exists():
                return place / name
    for place in places:
        if any((place / f"{name}.index.json").exists() for name in WEIGHT_FILES):
            raise ConceptFileError(
                f"{folder.name} holds a U-Net in several files, which is not read here: save it in "
                "one (save_pretrained with a larger max_shard_size)"
            )
    raise ConceptFileError(
        f"{folder.name} holds no U-Net of diffusers ({SUBFOLDER}/{WEIGHT_FILES[0]} or "
        f"{WEIGHT_FILES[2]}): choose the folder that save_pretrained wrote, or the published "
        "code's checkpoint-<step>"
    )


def prediction_type(folder: Path, weights: Path | None = None) -> str | None:
    """`epsilon` or `v` as the folder's scheduler says, else the U-Net's file; None where neither
    does."""
    told = _of_scheduler(folder)
    return told if told is not None or weights is None else file_prediction(weights)


def component_class(folder: Path) -> str | None:
    """The class that the config in a folder of diffusers' weights names; None if it names none."""
    return _told(folder / "config.json", "_class_name")


def _of_scheduler(folder: Path) -> str | None:
    told = _told(folder / "scheduler" / "scheduler_config.json", "prediction_type")
    return None if told is None else PREDICTIONS.get(told)


def _told(path: Path, key: str) -> str | None:
    """A text in a config of diffusers; None where there is none."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_CONFIG:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    told = content.get(key) if isinstance(content, dict) else None
    return told if isinstance(told, str) else None


def read_unet(path: Path) -> dict[str, Tensor]:
    """The tensors of a U-Net's file, as its pages where that is possible: it may be larger than the
    memory that is left. ConceptFileError names the file and what is wrong with it."""
    if path.suffix.lower() in SAFETENSORS:
        try:
            return read_tensors(path, mapped=True)[0]
        except (ValueError, OSError) as error:
            raise ConceptFileError.unreadable(path, error) from error
    content = read_pickled(path, largest=_LARGEST, kind="U-Net", mapped=True)
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strange or not content:
        raise ConceptFileError(
            f"{path.name} holds other things than a U-Net's weights "
            f"({', '.join(ascii(key)[:60] for key in strange[:3]) or 'nothing'}): choose "
            f"{SUBFOLDER}/{WEIGHT_FILES[2]} of the folder"
        )
    return {str(key): value for key, value in content.items()}


def check_layout(
    tensors: Mapping[str, Tensor], places: Mapping[str, Place], file: str, family: str
) -> None:
    """ConceptFileError, naming the family of the file, unless these are all the weights of the
    MODEL's U-Net. `places`: our weights by diffusers' names; `family`: of the MODEL."""
    if not any(key.endswith(_TEXT_KEY) and key.startswith("down_blocks.") for key in tensors):
        shown = ", ".join(ascii(key)[:60] for key in sorted(tensors)[:3]) or "none"
        raise ConceptFileError(
            f"{file} is no U-Net in diffusers' layout (its keys: {shown}): choose a folder that "
            "diffusers saved; a checkpoint is loaded by Load Checkpoint"
        )
    theirs = unet_family({key: tuple(value.shape) for key, value in tensors.items()})
    unfit = [
        key
        for key, (_, shape) in places.items()
        if key not in tensors or not _same_shape(tuple(tensors[key].shape), shape)
    ]
    unknown = sorted(set(tensors) - set(places))
    if not unfit and not unknown:
        return
    if theirs and not family.startswith(theirs.removesuffix(".x")):
        raise ConceptFileError(
            f"{file} is a U-Net of {theirs}, and this MODEL is {family}: connect a MODEL of its "
            "family, the checkpoint that it was trained from"
        )
    first = (unfit or unknown)[0]
    has = str(tuple(tensors[first].shape)) if first in tensors else "is missing"
    raise ConceptFileError(
        f"{file}: {len(unfit)} of {len(places)} weights of this MODEL ({family}) do not fit, and "
        f"{len(unknown)} are unknown to it, e.g. {ascii(first)[:80]} {has}: connect the checkpoint "
        "that it was trained from"
    )


def unet_family(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The family of a U-Net, of the shapes of its weights by diffusers' names: by the width of the
    text and the inputs; empty if they tell nothing."""
    widths = {s[1] for key, s in shapes.items() if key.endswith(_TEXT_KEY) and len(s) == 2}
    name = _WIDTHS.get(next(iter(widths)), "") if len(widths) == 1 else ""
    first = shapes.get("conv_in.weight", ())
    inputs = first[1] if len(first) == 4 else 4
    if name and inputs != 4:
        name += " inpainting" if inputs == 9 else f" with {inputs} inputs"
    return name


def _same_shape(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    """A product is written as a matrix or as a convolution of one pixel."""
    pixel = (1, 1)
    return theirs == ours or theirs == (*ours, *pixel) or (*theirs, *pixel) == ours


def unet_delta(
    tensors: Mapping[str, Tensor],
    places: Mapping[str, Place],
    base: MutableMapping[str, Tensor],
    *,
    stored: torch.dtype,
    dtype: torch.dtype,
    file: str,
    check: Callable[[], None] = lambda: None,
) -> dict[str, WeightDelta]:
    """What a U-Net that passed `check_layout` has otherwise than the base: file - base, by our
    names, in `dtype`. Weights of `base` (fp32) are taken out of it.

    A weight that is the base's own, but for the rounding of one of the two, is no change. `stored`:
    the precision in which the MODEL has its weights. `check` is called between the weights.
    """
    delta: dict[str, WeightDelta] = {}
    for key, (name, shape) in sorted(places.items()):
        check()
        ours, where = base.pop(name), f"{file}: {key}"
        check_precision(where, tensors[key])
        theirs = tensors[key].reshape(shape)
        kinds = {stored, theirs.dtype} & {torch.float16, torch.bfloat16, torch.float32}
        if any(torch.equal(theirs.to(kind), ours.to(kind)) for kind in kinds):
            continue
        change = (theirs.float() - ours).to(dtype)
        check_finite(where, change)
        delta[name] = change
    return delta
