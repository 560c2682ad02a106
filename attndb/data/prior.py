"""PriorImages: pictures of the category, which keep the model's idea of it while a subject is
learned (prior preservation: DreamBooth, Ruiz et al. 2022, section 3.2)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..config.words import word_key
from .photo import DatasetError, Photo

DEFAULT_PRIOR_PROMPT = "a photo of a {}"


@dataclass(frozen=True, kw_only=True)
class PriorImages:
    """Pictures of the category, usually the base model's own, with the prompt they stand for."""

    images: tuple[Photo, ...]
    """100 to 200 are usual; as many as one step's batch is the least that makes sense."""
    prompt: str
    """What they show, e.g. `a photo of a cat`. The placeholder is not in it."""
    weight: float = 1.0
    """lambda: what their denoising loss counts next to the subject's. DreamBooth: 1."""

    def __post_init__(self) -> None:
        if not self.images:
            raise DatasetError(
                "there is no prior image: connect an IMAGE batch with pictures of the category, "
                "e.g. drawn by KSampler from 'a photo of a cat'"
            )
        check_prior_weight(self.weight)
        if not self.prompt.strip():
            raise DatasetError("prompt is empty: type what the images show, e.g. 'a photo of a {}'")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pictures, prompt and weight."""
        content = hashlib.sha256("".join(image.digest for image in self.images).encode())
        content.update(f"{self.prompt}\0{self.weight!r}".encode())
        return content.hexdigest()

    def record(self) -> dict[str, Any]:
        """Plain data for a concept's record."""
        return {
            "prompt": self.prompt,
            "weight": self.weight,
            "count": len(self.images),
            "images": [image.digest for image in self.images],
        }

    def check_fits(self, category: str, placeholder: str, photos: Sequence[Photo]) -> None:
        """DatasetError unless they can be the prior of this subject: the prompt says the category,
        and not the placeholder; no image is a photo of the subject."""
        check_prior_prompt(self.prompt, category, placeholder)
        subject = {photo.digest: photo.name for photo in photos}
        for image in self.images:
            if image.digest in subject:
                raise DatasetError(
                    f"{image.name} is the dataset's photo {subject[image.digest]}: prior images "
                    f"show any {category} but the subject; connect pictures made by the base model"
                )


def check_prior_weight(weight: float) -> None:
    """DatasetError unless prior images count something."""
    if not (math.isfinite(weight) and weight > 0):
        raise DatasetError(
            f"weight = {weight:g}: must be above 0 (1 is usual); leave prior images out (bypass "
            "this node) to train without them"
        )


def check_prior_prompt(prompt: str, category: str, placeholder: str) -> None:
    """DatasetError unless the prompt says the category, and not the subject."""
    remedy = "e.g. 'a photo of a {}', where {} becomes the category"
    if word_key(placeholder) in word_key(prompt):
        raise DatasetError(
            f"prompt {prompt!r} contains the placeholder {placeholder!r}: prior images "
            f"show the category without the subject; type {remedy}"
        )
    if not re.search(rf"(?<!\w){re.escape(category)}(?!\w)", prompt, re.IGNORECASE):
        raise DatasetError(
            f"prompt {prompt!r} does not contain the category {category!r}: type {remedy}"
        )
