"""PhotoBatches: a stage's batches of the subject's photos, any step's on its own.

Shapes: C latent channels, Y X latent pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..config.stage import StageConfig
from .augmentation import Crop, draw_crop, render
from .batch import Batch
from .dataset import ConceptDataset
from .draws import draw_noise, epoch_index, step_generator
from .photo import Photo
from .tokens import TokenizedPrompt


class PhotoBatches:
    """Batches drawn from a concept dataset: every photo once per round, in a shuffled order."""

    def __init__(
        self,
        dataset: ConceptDataset,
        prompt: TokenizedPrompt,
        config: StageConfig,
        timesteps: int,
        encode_image: Callable[[Tensor], Tensor],
    ) -> None:
        self._dataset = dataset
        self._prompt = prompt
        self._config = config
        self._timesteps = timesteps
        self._encode_image = encode_image
        self._kept: dict[tuple[str, Crop], tuple[Tensor, Tensor]] = {}
        data = config.data
        self._pool = [
            draw_crop(data.augmentation, step_generator("pool", config.seed, slot))
            for slot in range(data.latent_pool)
        ]
        if data.augmentation == "none" and not self._pool:
            self._pool = [Crop()]  # there is no other

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """Encodes the pool, if the stage draws more samples than it holds; whether nothing will be
        encoded any more. `progress` hears how many crops are done, and of how many."""
        wanted = {(p.digest, crop): p for p in self._dataset.photos for crop in self._pool}
        if not 0 < len(wanted) <= self._config.steps * self._config.batch_size:
            return False
        for done, ((digest, crop), photo) in enumerate(wanted.items(), start=1):
            self._kept[digest, crop] = self._encode(photo, crop)
            if progress is not None:
                progress(done, len(wanted))
        return True

    def __getitem__(self, step: int) -> Batch:
        config = self._config
        generator = step_generator("step", config.seed, config.stage, step)
        samples = [
            self._sample(self._photo(step * config.batch_size + i), generator)
            for i in range(config.batch_size)
        ]
        latents = torch.stack([latent for latent, _ in samples])
        mask = torch.stack([mask for _, mask in samples])
        noise, timesteps = draw_noise(
            latents.shape, self._timesteps, config.offset_noise, generator
        )
        return Batch(
            latents,
            noise,
            timesteps,
            (self._prompt,) * config.batch_size,
            mask if config.data.mask_fill else None,
        )

    def _photo(self, index: int) -> Photo:
        """The photo of sample `index`, counted from the start of the stage."""
        photos, config = self._dataset.photos, self._config
        return photos[epoch_index(index, len(photos), "round", config.seed, config.stage)]

    def _sample(self, photo: Photo, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        data = self._config.data
        crop = draw_crop(data.augmentation, generator)
        if data.latent_pool:
            crop = self._pool[int(torch.randint(0, data.latent_pool, (1,), generator=generator))]
        elif not self._pool:
            return self._encode(photo, crop)
        key = (photo.digest, crop)
        if key not in self._kept:
            self._kept[key] = self._encode(photo, crop)
        return self._kept[key]

    def _encode(self, photo: Photo, crop: Crop) -> tuple[Tensor, Tensor]:
        pixels, weights = render(photo.image, crop, self._config.data.resolution)
        latent_CYX = self._encode_image(torch.from_numpy(pixels)[None])[0].float().cpu()
        return latent_CYX, torch.from_numpy(latent_mask(weights, latent_CYX.shape[-1]))


def latent_mask(weights: np.ndarray, side: int) -> np.ndarray:
    """Pixel weights (R, R) as latent weights (1, side, side): 1 where all the pixels are photo.

    A crop of fill alone counts whole, so that no sample is without a loss.
    """
    blocks = rearrange(weights, "(y a) (x b) -> y x (a b)", y=side, x=side)
    mask = (blocks.min(axis=-1) > 0).astype(np.float32)[None]
    return mask if mask.any() else np.ones_like(mask)
