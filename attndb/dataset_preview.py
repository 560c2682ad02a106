"""What a training will see of a dataset, as a picture and a text, with advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .config.printable import printable
from .config.stage import StageConfig
from .data.dataset import ConceptDataset
from .data.photo import Photo
from .data.photo_advice import crop_advice, photo_advice
from .data.sharpness import sharpness
from .data.training_crops import TrainingCrop, training_crops, whole_counted
from .viz.dataset_grid import GridRow, dataset_grid, squared, veiled
from .viz.heatmaps import Cell

MOST_PHOTOS = 12
"""Photos of a picture; the advice is about all of them."""
_MOST_PROMPTS = 3
_CELL = 192


@dataclass(frozen=True)
class DatasetPreview:
    """A dataset to look at."""

    picture: Tensor
    """(Y, X, 3) fp32 in 0..1: a row for each photo, the whole of it and its crops. What does not
    count in the loss lies under a veil."""
    text: str
    """The same in words: sizes, prompts or their tokens, crops, advice."""
    advice: tuple[str, ...]
    """What is likely to go wrong, a line for each."""


def dataset_preview(
    dataset: ConceptDataset, config: StageConfig, crops: int, tokens: Mapping[str, str]
) -> DatasetPreview:
    """The first `crops` crops of each photo that a stage with these settings draws. `tokens`:
    training prompts as their tokens, by prompt; a prompt that is not there is shown as it is."""
    shown = training_crops(dataset, config, crops, MOST_PHOTOS)
    resolution = config.data.resolution
    sharp = [sharpness(photo, resolution) for photo in dataset.photos]
    advice = [
        *photo_advice(dataset, resolution, sharp, config.data.aspect_buckets),
        *crop_advice(dataset, shown, config.data.keep_subject),
    ]
    title = _title(dataset, config)
    rows, lines = [], [title]
    each = zip(dataset.photos, shown, sharp, strict=False)
    for number, (photo, own, sharp_one) in enumerate(each, start=1):
        heading = f"{number}. {printable(photo.name, 60)}, {_size(photo)}"
        prompts = [tokens.get(prompt, prompt) for prompt in dataset.prompts_of(photo)]
        rows.append(GridRow(f"{heading}: {prompts[0]}", _cells(photo, own, dataset.background)))
        lines += _lines(heading, prompts, own, sharp_one)
    if (more := len(dataset.photos) - len(rows)) > 0:
        lines.append(f"and {more} more photos")
    lines += [f"! {line}" for line in advice]
    picture = dataset_grid(title, rows, advice, _CELL)
    return DatasetPreview(picture, "\n".join(lines), tuple(advice))


def _title(dataset: ConceptDataset, config: StageConfig) -> str:
    data = config.data
    varied = [
        f"turned up to {data.max_angle:g} degrees" if data.max_angle else "not turned",
        "mirrored at times" if data.flip else "not mirrored",
        "cut anywhere" if data.random_crop else "cut from the middle",
    ]
    how = "centre crops" if data.augmentation == "none" else f"crops {', '.join(varied)}"
    count = len(dataset.photos)
    return (
        f"{dataset.placeholder} {dataset.category}: {count} photo{'s' if count > 1 else ''}; "
        f"{how}{', where the subject is whole' if data.keep_subject else ''}; "
        f"{data.resolution} px{' in aspect buckets' if data.aspect_buckets else ''}, "
        f"seed {config.seed}"
    )


def _size(photo: Photo) -> str:
    return f"{photo.image.width} x {photo.image.height} px"


def _lines(
    heading: str, prompts: Sequence[str], crops: Sequence[TrainingCrop], sharp: float
) -> list[str]:
    lines = [f"{heading}, sharpness {sharp:.0f}"]
    lines += [f"   {prompt}" for prompt in prompts[:_MOST_PROMPTS]]
    if (more := len(prompts) - _MOST_PROMPTS) > 0:
        lines.append(f"   and {more} more prompts in turn")
    for number, crop in enumerate(crops, start=1):
        lines.append(f"   crop {number}: {crop.text}{_share(crop, ', subject ')}")
    return lines


def _cells(photo: Photo, crops: Sequence[TrainingCrop], background: float) -> tuple[Cell, ...]:
    small = photo.image.copy()
    small.thumbnail((2 * _CELL, 2 * _CELL), reducing_gap=3.0)
    mask = None if photo.mask is None else photo.mask.resize(small.size, Image.Resampling.BILINEAR)
    counted = whole_counted(Photo(photo.name, small, mask=mask), background)
    whole = squared(veiled(_floats(np.asarray(small)), torch.from_numpy(counted)), _CELL)
    cells = [Cell("the photo", whole, detail="mask" if mask else "")]
    for crop in crops:
        picture = veiled(_floats(crop.pixels), torch.from_numpy(crop.counted))
        if picture.shape[0] != picture.shape[1]:
            picture = squared(picture, _CELL)
        cells.append(Cell(crop.text, picture, detail=_share(crop)))
    return tuple(cells)


def _share(crop: TrainingCrop, before: str = "") -> str:
    return "" if crop.subject is None else f"{before}{crop.subject:.0%}"


def _floats(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).float() / 255
