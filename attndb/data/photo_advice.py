"""What experience says goes wrong with the photos of a subject, seen before it is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from ..config.named import MOST, named
from ..config.printable import printable
from .augmentation import SUBJECT_LEVEL
from .bucket import bucket_of, width_height
from .dataset import ConceptDataset
from .likeness import alike
from .photo import Photo
from .sharpness import BLURRED
from .training_crops import TrainingCrop

SMALL = 4 / 64
"""Share of a crop below which a subject is small. The coarsest attention maps of Stable Diffusion
have 8 x 8 pixels: below 2 x 2 of them there is no shape that a map could have."""
_SAME_LEVELS = 12.0
"""Of 255: by how much mean and spread of surroundings may differ and be alike, in every channel."""
_SIDE, _FRAME = 32, 4
"""Pixels of the small picture on which surroundings are compared, and of its frame, which is taken
for them where no mask says better."""


def photo_advice(
    dataset: ConceptDataset, resolution: int, sharp: Sequence[float], aspect_buckets: bool = False
) -> list[str]:
    """A line for each thing that is likely to go wrong: what, on which photos, and what to do.
    `sharp`: the `sharpness` of every photo at this resolution."""
    photos = dataset.photos
    found = []
    if len(photos) == 1:
        found.append(
            "one photo: what surrounds the subject in it is learned as well; 3 to 6 photos in "
            "different places are usual"
        )
    if few := [photo for photo in photos if _enlarged(photo, resolution, aspect_buckets)]:
        found.append(
            f"smaller than the crops of {resolution} px, so they are enlarged and learned soft: "
            f"{_names(few)}; take larger photos, or a lower resolution"
        )
    if blurred := [p for p, value in zip(photos, sharp, strict=True) if value < BLURRED]:
        found.append(
            f"blurred, or without any detail: {_names(blurred)}; the subject is learned so: take "
            "sharp photos"
        )
    if small := [photo for photo in photos if 0 < subject_share(photo) < SMALL]:
        found.append(
            f"the subject is small, under {SMALL:.0%} of a crop: {_names(small)}; cut these photos "
            "closer around it"
        )
    if _surroundings_count(dataset) and alike_around(photos):
        found.append(
            f"the surroundings look alike on all {len(photos)} photos, so they are learned as part "
            "of the subject: take photos in other places, connect masks, or say in captions where "
            "it is"
        )
    for first, second in (same := alike(photos))[:MOST]:
        found.append(
            f"{printable(first, 60)} and {printable(second, 60)} are nearly the same picture: what "
            "they share is learned twice; leave one out"
        )
    if len(same) > MOST:
        found.append(f"{len(same) - MOST} more photos are nearly the same as another")
    return found


def crop_advice(
    dataset: ConceptDataset, shown: Sequence[Sequence[TrainingCrop]], keep_subject: bool
) -> list[str]:
    """The same of crops that a training draws, by photo."""
    if keep_subject and not dataset.masked:
        return ["keep_subject is on, and no photo has a mask: crops are cut as without it"]
    cut = [crop for own in shown for crop in own if crop.subject is not None]
    empty = sum(crop.subject == 0 for crop in cut)
    if not empty:
        return []
    return [
        f"{empty} of {len(cut)} crops have no subject in them: turn on keep_subject in Training "
        "Options, or cut the photos closer around it"
    ]


def subject_share(photo: Photo) -> float:
    """Share of subject in the largest square of the photo that its mask lets be full of it; 0
    without a mask."""
    if photo.mask is None:
        return 0.0
    covered = np.count_nonzero(np.asarray(photo.mask) >= SUBJECT_LEVEL)
    return min(1.0, covered / min(photo.image.size) ** 2)


def alike_around(photos: Sequence[Photo]) -> bool:
    """Whether what surrounds the subject has nearly the same colours on all of several photos."""
    around = [_surroundings(photo) for photo in photos]
    known = [colours for colours in around if colours is not None]
    if len(known) < 2 or len(known) < len(photos):
        return False
    return bool(np.ptp(np.stack(known), axis=0).max() <= _SAME_LEVELS)


def _enlarged(photo: Photo, resolution: int, aspect_buckets: bool) -> bool:
    size = photo.image.size
    crop = width_height(bucket_of(size, resolution) if aspect_buckets else resolution)
    return any(length < least for length, least in zip(size, crop, strict=True))


def _surroundings_count(dataset: ConceptDataset) -> bool:
    """Whether anything around the subject is looked at by the loss."""
    return dataset.background > 0 or any(photo.mask is None for photo in dataset.photos)


def _surroundings(photo: Photo) -> np.ndarray | None:
    """Mean and spread (2, 3) of the colours around the subject, 0..255; None if there is nothing
    around it."""
    box, size = Image.Resampling.BOX, (_SIDE, _SIDE)
    colours = np.asarray(photo.image.resize(size, box, reducing_gap=2.0), dtype=np.float32)
    around = np.ones(size, dtype=bool)
    if photo.mask is not None:
        around = np.asarray(photo.mask.resize(size, box)) < SUBJECT_LEVEL
    else:
        around[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    if not around.any():
        return None
    return np.stack([colours[around].mean(axis=0), colours[around].std(axis=0)])


def _names(photos: Iterable[Photo]) -> str:
    return named([printable(photo.name, 60) for photo in photos])
