"""PriorBatches: prior samples next to every batch of the subject's photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from ..config.stage import StageConfig
from .augmentation import Crop
from .batch import Batch
from .crop_sizes import KnownSizes
from .draws import draw_noise, epoch_index, step_generator
from .latent_pool import Key, LatentPool, PoolSettings, Sample
from .latent_source import LatentSource, RenderedCrop
from .photo_batches import DEFAULT_POOL, PhotoBatches
from .prior import PriorImages
from .tokens import TokenizedText

Rendered = tuple[dict[Key, RenderedCrop], dict[Key, RenderedCrop]]
"""Crops of the subject's photos, and of prior images."""
WHOLE = Crop()
"""A prior image is cut from its centre as it is."""


class PriorBatches:
    """The batches of a subject's photos, each with as many prior samples next to its own.

    The photos are drawn as they would be alone: prior samples have generators of their own.
    Every prior image comes once per round, in a shuffled order, cut from its centre as it is: it
    has one latent, which is computed once.
    """

    def __init__(
        self,
        photos: PhotoBatches,
        prior: PriorImages,
        prompt: TokenizedText,
        config: StageConfig,
        timesteps: int,
        encode_image: Callable[[Tensor], Tensor],
        pool: PoolSettings = DEFAULT_POOL,
        sized: bool = False,
    ) -> None:
        """`prompt`: that of the prior images. `encode_image`: latents of pixels in 0..1. `sized`:
        as of PhotoBatches."""
        self._photos = photos
        self._prior = prior
        self._prompt = prompt
        self._config = config
        self._timesteps = timesteps
        resolution = config.data.resolution
        source = LatentSource(encode_image, resolution, repeats=False)
        self._sizes = KnownSizes(source) if sized else None
        key = {"resolution": resolution, "masked": False}
        crops = {image.key: [WHOLE] for image in prior.images}
        self._pool = LatentPool(source, prior.images, crops, key, pool)

    @property
    def fills(self) -> bool:
        """Whether `fill` leaves nothing to be encoded."""
        return self._photos.fills and self._draws_all

    @property
    def _draws_all(self) -> bool:
        """Whether every prior image is drawn."""
        return self._config.steps * self._config.batch_size >= self._pool.pictures

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """As `PhotoBatches.fill`, with the prior images after the photos, if all are drawn."""
        complete = self._photos.fill(progress)
        return self._draws_all and self._pool.fill(1, progress) and complete

    def __getitem__(self, step: int) -> Batch:
        return self.encode(step, self.render(step))

    def render(self, step: int) -> Rendered:
        """What `encode` needs for a step: any thread may render."""
        return self._photos.render(step), self._pool.render(self._images(step))

    def encode(self, step: int, rendered: Rendered) -> Batch:
        """The step's batch, from what `render` gave for it."""
        photos, prior = rendered
        batch = self._photos.encode(step, photos)
        self._pool.encode(self._images(step), prior)
        return dataclasses.replace(batch, prior=self._draw(step), prior_weight=self._prior.weight)

    def _images(self, step: int) -> list[Sample]:
        """The prior images of a step, as many as the subject's samples."""
        config, images = self._config, self._prior.images
        return [
            (
                images[epoch_index(index, len(images), "prior round", config.seed, config.stage)],
                WHOLE,
            )
            for index in range(step * config.batch_size, (step + 1) * config.batch_size)
        ]

    def _draw(self, step: int) -> Batch:
        config, images = self._config, self._images(step)
        generator = step_generator("prior step", config.seed, config.stage, step)
        latents = torch.stack([latent for latent, _ in self._pool.encode(images, {})])
        noise, timesteps = draw_noise(
            latents.shape, self._timesteps, config.offset_noise, generator
        )
        sizes = None if self._sizes is None else self._sizes.of(images)
        return Batch(latents, noise, timesteps, (self._prompt,) * len(images), sizes=sizes)
