"""PriorBatches: prior samples next to every batch of the subject's photos.

Shapes: C latent channels, Y X latent pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from ..config.stage import StageConfig
from .augmentation import Crop, render
from .batch import Batch
from .draws import draw_noise, epoch_index, step_generator
from .photo import Photo
from .photo_batches import PhotoBatches
from .prior import PriorImages
from .tokens import TokenizedText


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
        self._encode_image = encode_image
        self._kept: dict[str, Tensor] = {}

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """As `PhotoBatches.fill`, with the prior images after the photos."""
        complete = self._photos.fill(progress)
        wanted = {image.digest: image for image in self._prior.images}
        if len(wanted) > self._config.steps * self._config.batch_size:
            return False
        for done, image in enumerate(wanted.values(), start=1):
            self._latent(image)
            if progress is not None:
                progress(done, len(wanted))
        return complete

    def __getitem__(self, step: int) -> Batch:
        batch = self._photos[step]
        return dataclasses.replace(
            batch, prior=self._draw(step, len(batch)), prior_weight=self._prior.weight
        )

    def _draw(self, step: int, count: int) -> Batch:
        config, images = self._config, self._prior.images
        latents = []
        for index in range(step * count, (step + 1) * count):
            place = epoch_index(index, len(images), "prior round", config.seed, config.stage)
            latents.append(self._latent(images[place]))
        generator = step_generator("prior step", config.seed, config.stage, step)
        stacked = torch.stack(latents)
        noise, timesteps = draw_noise(
            stacked.shape, self._timesteps, config.offset_noise, generator
        )
        return Batch(stacked, noise, timesteps, (self._prompt,) * count)

    def _latent(self, image: Photo) -> Tensor:
        if image.digest not in self._kept:
            pixels, _ = render(image.image, Crop(), self._config.data.resolution)
            latent_CYX = self._encode_image(torch.from_numpy(pixels)[None])[0].float().cpu()
            self._kept[image.digest] = latent_CYX
        return self._kept[image.digest]
