"""PriorBatches: prior samples next to every batch of the subject's photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from ..config.stage import StageConfig
from .augmentation import Crop
from .batch import Batch
from .draws import draw_noise, epoch_index, step_generator
from .latent_source import LatentSource, RenderedCrop
from .photo import Photo
from .photo_batches import PhotoBatches
from .prior import PriorImages
from .tokens import TokenizedText

Rendered = tuple[dict[tuple[str, Crop], RenderedCrop], dict[str, RenderedCrop]]
"""Crops of the subject's photos, and of prior images by digest."""


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
    ) -> None:
        """`prompt`: that of the prior images. `encode_image`: latents of pixels in 0..1."""
        self._photos = photos
        self._prior = prior
        self._prompt = prompt
        self._config = config
        self._timesteps = timesteps
        self._latents = LatentSource(encode_image, config.data.resolution, repeats=False)
        self._kept: dict[str, Tensor] = {}

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """As `PhotoBatches.fill`, with the prior images after the photos."""
        complete = self._photos.fill(progress)
        wanted = {image.digest: image for image in self._prior.images}
        if len(wanted) > self._config.steps * self._config.batch_size:
            return False
        for done, image in enumerate(wanted.values(), start=1):
            self._keep(image, self._latents.render(image, Crop()))
            if progress is not None:
                progress(done, len(wanted))
        return complete

    def __getitem__(self, step: int) -> Batch:
        return self.encode(step, self.render(step))

    def render(self, step: int) -> Rendered:
        """What `encode` needs for a step: any thread may render."""
        missing = {i.digest: i for i in self._images(step) if i.digest not in self._kept}
        prior = {key: self._latents.render(image, Crop()) for key, image in missing.items()}
        return self._photos.render(step), prior

    def encode(self, step: int, rendered: Rendered) -> Batch:
        """The step's batch, from what `render` gave for it."""
        photos, prior = rendered
        batch = self._photos.encode(step, photos)
        for image in self._images(step):
            if image.digest not in self._kept:
                self._keep(image, prior[image.digest])
        return dataclasses.replace(batch, prior=self._draw(step), prior_weight=self._prior.weight)

    def _images(self, step: int) -> list[Photo]:
        """The prior images of a step, as many as the subject's samples."""
        config, images = self._config, self._prior.images
        return [
            images[epoch_index(index, len(images), "prior round", config.seed, config.stage)]
            for index in range(step * config.batch_size, (step + 1) * config.batch_size)
        ]

    def _draw(self, step: int) -> Batch:
        config, images = self._config, self._images(step)
        generator = step_generator("prior step", config.seed, config.stage, step)
        latents = torch.stack([self._kept[image.digest] for image in images])
        noise, timesteps = draw_noise(
            latents.shape, self._timesteps, config.offset_noise, generator
        )
        return Batch(latents, noise, timesteps, (self._prompt,) * len(images))

    def _keep(self, image: Photo, crop: RenderedCrop) -> None:
        if image.digest not in self._kept:
            self._kept[image.digest] = self._latents.encode([crop])[0][0]
