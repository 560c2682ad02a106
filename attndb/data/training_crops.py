"""What a training sees of its photos: the first crops that it draws, and what counts in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..config.stage import StageConfig
from .augmentation import Crop
from .dataset import ConceptDataset
from .latent_source import LatentSource
from .photo import Photo
from .photo_batches import PhotoBatches
from .tokens import TokenizedPrompt


@dataclass(frozen=True)
class TrainingCrop:
    """One crop of a photo."""

    crop: Crop
    pixels: np.ndarray
    """(R, R, 3) uint8; (height, width, 3) in a bucket."""
    counted: np.ndarray
    """Of the same size, fp32: what each pixel counts in the loss, 0..1."""
    subject: float | None
    """Share of subject in the crop; None on a photo without a mask."""

    @property
    def text(self) -> str:
        """What was done to the photo."""
        height, width = self.pixels.shape[:2]
        shape = [f"{width} x {height}"] if width != height else []
        turned = [f"turned {self.crop.angle:+.0f}\u00b0"] if self.crop.angle else []
        mirrored = ["mirrored"] if self.crop.flip else []
        return ", ".join([*shape, *turned, *mirrored]) or "as it is"


def training_crops(
    dataset: ConceptDataset, config: StageConfig, each: int, most: int
) -> list[list[TrainingCrop]]:
    """Of each photo, up to `most` of them, the crops of the first `each` samples that a stage
    draws of it; fewer where a crop comes again."""
    # Crops are drawn of photos and numbers: what the prompts are made of does not matter here.
    prompts = [TokenizedPrompt(prompt, (None,), 0) for prompt in dataset.prompts]
    batches = PhotoBatches(dataset, prompts, config, 1, _unused)
    samples = each * len(dataset.photos)
    steps = range(-(-samples // config.batch_size))
    drawn = [sample for step in steps for sample in batches.samples(step)][:samples]
    data = config.data
    source = LatentSource(
        _unused,
        data.resolution,
        masked=dataset.masked,
        keep_subject=data.keep_subject,
        aspect_buckets=data.aspect_buckets,
    )
    return [
        [
            _rendered(source, photo, crop, dataset.background, data.mask_fill)
            for crop in dict.fromkeys(crop for other, crop in drawn if other is photo)
        ]
        for photo in dataset.photos[:most]
    ]


def whole_counted(photo: Photo, background: float) -> np.ndarray:
    """What each pixel of a whole photo counts in the loss, (Y, X) fp32."""
    if photo.mask is None:
        return np.ones(photo.image.size[::-1], dtype=np.float32)
    return _counted(np.asarray(photo.mask), background)


def _rendered(
    source: LatentSource, photo: Photo, crop: Crop, background: float, mask_fill: bool
) -> TrainingCrop:
    rendered = source.render(photo, crop)
    counted, share = np.ones(rendered.mask.shape, dtype=np.float32), None
    if rendered.subject is not None:
        counted = _counted(rendered.subject, background)
        share = float(rendered.subject.mean()) / 255.0
    return TrainingCrop(
        crop, rendered.pixels, counted * rendered.mask if mask_fill else counted, share
    )


def _counted(levels: np.ndarray, background: float) -> np.ndarray:
    share = levels.astype(np.float32) / np.float32(255.0)
    return background + (1.0 - background) * share


def _unused(pixels: Tensor) -> Tensor:
    raise AssertionError("crops are looked at, not encoded")
