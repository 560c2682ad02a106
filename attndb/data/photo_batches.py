"""PhotoBatches: a stage's batches of the subject's photos, any step's on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..config.stage import StageConfig
from .augmentation import Crop, draw_crop_of
from .batch import Batch
from .crop_sizes import KnownSizes
from .dataset import ConceptDataset
from .draws import draw_noise, epoch_index, step_generator
from .latent_pool import Key, LatentPool, PoolSettings, Sample, pool_crops, pool_size
from .latent_source import Encoded, LatentSource, RenderedCrop
from .photo import Photo
from .reference_photos import ReferencePhotos
from .tokens import TokenizedText

DEFAULT_POOL = PoolSettings()
"""One crop in a call, nothing on disk."""


class PhotoBatches:
    """Batches drawn from a concept dataset: every photo once per round, in a shuffled order.

    `batches[step]` is `batches.encode(step, batches.render(step))`: rendering is work for any
    thread, encoding is for the one that computes.
    """

    def __init__(
        self,
        dataset: ConceptDataset,
        prompts: Sequence[TokenizedText],
        config: StageConfig,
        timesteps: int,
        encode_image: Callable[[Tensor], Tensor],
        own: Sequence[TokenizedText] = (),
        pool: PoolSettings = DEFAULT_POOL,
        sized: bool = False,
    ) -> None:
        """`prompts`: the dataset's, in its order. `own`: those of the method, instead of them.
        `sized`: whether the model is told the sizes of photo and crop."""
        self._dataset = dataset
        self._prompts = dict(zip(dataset.prompts, prompts, strict=True))
        self._own = tuple(own)
        self._config = config
        self._timesteps = timesteps
        data = config.data
        source = LatentSource(
            encode_image,
            data.resolution,
            masked=dataset.masked,
            keep_subject=data.keep_subject,
            aspect_buckets=data.aspect_buckets,
        )
        self._sizes = KnownSizes(source) if sized else None
        self._references: ReferencePhotos | None = None
        if config.needs_photo:
            self._references = ReferencePhotos(dataset.photos, source, config.seed, config.stage)
        size = pool_size(data, len(dataset.photos), pool.room)
        crops = {p.key: pool_crops(data, config.seed, p, size) for p in dataset.photos if size}
        key = {
            "resolution": data.resolution,
            "masked": dataset.masked,
            "keep_subject": data.keep_subject,
            **({"aspect_buckets": True} if data.aspect_buckets else {}),
        }
        self._pool = LatentPool(source, dataset.photos, crops, key, pool)

    @property
    def fills(self) -> bool:
        """Whether `fill` leaves nothing to be encoded."""
        return bool(self._pool.of(self._dataset.photos[0]))

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """Encodes what the stage draws of its pool; whether nothing will be encoded any more.
        `progress` hears how many crops are done, and of how many."""
        if self._references is not None:
            self._references.fill()
        config = self._config
        turns = -(-config.steps * config.batch_size // len(self._dataset.photos))
        return self._pool.fill(turns, progress)

    def samples(self, step: int) -> list[tuple[Photo, Crop]]:
        """The photos of a step, and how each is cropped."""
        return self._draw(step)[0]

    def __getitem__(self, step: int) -> Batch:
        return self.encode(step, self.render(step))

    def render(self, step: int) -> dict[Key, RenderedCrop]:
        """The crops of a step that are not encoded yet."""
        return self._pool.render(self._draw(step)[0])

    def encode(self, step: int, rendered: Mapping[Key, RenderedCrop]) -> Batch:
        """The step's batch, from what `render` gave for it."""
        config = self._config
        samples, generator = self._draw(step)
        found = self._pool.encode(samples, rendered)
        prompts = [self._prompt(step * config.batch_size + i) for i in range(config.batch_size)]
        shapes: dict[torch.Size, list[int]] = {}
        for index, (latent, _) in enumerate(found):
            shapes.setdefault(latent.shape, []).append(index)

        def batch(chosen: list[int]) -> Batch:
            crops, latents = [samples[i] for i in chosen], [found[i] for i in chosen]
            made = self._batch(crops, latents, [prompts[i] for i in chosen], generator)
            if self._references is None:
                return made
            indexes = [step * config.batch_size + i for i in chosen]
            own = [(index, self._photo_number(index)) for index in indexes]
            return replace(made, reference=self._references.of(own))

        first, *others = map(batch, shapes.values())
        return replace(first, others=tuple(others))

    def _batch(
        self,
        samples: Sequence[Sample],
        found: Sequence[Encoded],
        prompts: Sequence[TokenizedText],
        generator: torch.Generator,
    ) -> Batch:
        """Samples of one shape, with noise and timesteps."""
        latents = torch.stack([latent for latent, _ in found])
        mask = torch.stack([weights for _, weights in found])
        offset = self._config.offset_noise
        noise, timesteps = draw_noise(latents.shape, self._timesteps, offset, generator)
        return Batch(
            latents,
            noise,
            timesteps,
            tuple(prompts),
            self._loss_mask(mask),
            subject=mask[:, 1:] if self._dataset.masked else None,
            sizes=None if self._sizes is None else self._sizes.of(samples),
        )

    def _loss_mask(self, weights: Tensor) -> Tensor | None:
        """What each latent pixel counts: the fill of a rotation nothing, the background little."""
        mask = weights[:, :1] if self._config.data.mask_fill else None
        if not self._dataset.masked:
            return mask
        background = self._dataset.background
        subject = background + (1.0 - background) * weights[:, 1:]
        return subject if mask is None else mask * subject

    def _draw(self, step: int) -> tuple[list[Sample], torch.Generator]:
        """The photos and crops of a step, and the generator that draws the rest of it."""
        config = self._config
        generator = step_generator("step", config.seed, config.stage, step)
        first, samples = step * config.batch_size, []
        for index in range(first, first + config.batch_size):
            number = self._photo_number(index)
            samples.append((self._dataset.photos[number], self._crop(index, number, generator)))
        return samples, generator

    def _photo(self, index: int) -> Photo:
        """The photo of sample `index`, counted from the start of the stage."""
        return self._dataset.photos[self._photo_number(index)]

    def _photo_number(self, index: int) -> int:
        count, config = len(self._dataset.photos), self._config
        return epoch_index(index, count, "round", config.seed, config.stage)

    def _prompt(self, index: int) -> TokenizedText:
        """The prompt of sample `index`: of several templates, each once per round."""
        if self._own:
            seed, stage = self._config.seed, self._config.stage
            return self._own[epoch_index(index, len(self._own), "template", seed, stage)]
        own = self._dataset.prompts_of(self._photo(index))
        if len(own) == 1:
            return self._prompts[own[0]]
        seed, stage = self._config.seed, self._config.stage
        return self._prompts[own[epoch_index(index, len(own), "template", seed, stage)]]

    def _crop(self, index: int, number: int, generator: torch.Generator) -> Crop:
        """How sample `index`, of photo `number`, is cropped. Of a pool every crop of the photo has
        its turn before one comes again, the same ones first in every stage: what one has encoded,
        the next draws. The step's generator gives as many numbers as without a pool."""
        config, photos = self._config, self._dataset.photos
        crop, crops = draw_crop_of(config.data, generator), self._pool.of(photos[number])
        if not crops:
            return crop
        turn = index // len(photos)
        if turn < len(crops):
            return crops[turn]
        return crops[epoch_index(turn, len(crops), "crop", config.seed, config.stage, number)]
