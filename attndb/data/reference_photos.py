"""ReferencePhotos: for every sample of a training the latent of another photo of the subject."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .augmentation import Crop
from .draws import step_generator
from .latent_source import LatentSource
from .photo import Photo


class ReferencePhotos:
    """Photos as they are, cut from the centre and not turned; each is encoded once."""

    def __init__(self, photos: Sequence[Photo], source: LatentSource, *key: object) -> None:
        """`key`: decides the draws, e.g. seed and stage."""
        self._photos, self._source, self._key = photos, source, key
        self._latents: dict[int, Tensor] = {}

    def fill(self) -> None:
        """Encodes what is not encoded yet."""
        for number in range(len(self._photos)):
            self._latent(number)

    def of(self, samples: Sequence[tuple[int, int]]) -> Tensor:
        """(B, C, Y, X) for samples, each by its index since the start of the stage and the number
        of its own photo: any other photo, or that one where there is no other."""
        return torch.stack([self._latent(self._drawn(index, own)) for index, own in samples])

    def _drawn(self, index: int, own: int) -> int:
        others = [number for number in range(len(self._photos)) if number != own] or [own]
        generator = step_generator("reference", *self._key, index)
        return others[int(torch.randint(0, len(others), (1,), generator=generator))]

    def _latent(self, number: int) -> Tensor:
        if number not in self._latents:
            self._latents[number] = self._source(self._photos[number], Crop())[0]
        return self._latents[number]
