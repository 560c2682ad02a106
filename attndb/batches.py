"""The training batches of a stage: any step's batch on its own, decided by the seed.

Each step has its own generator, derived from (seed, stage, step), so a resumed run needs no
generator state and sees the batches that an uninterrupted one sees.

Shapes: B batch, C latent channels, Y X latent pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .augmentation import Crop, draw_crop, render
from .config import StageConfig
from .dataset import ConceptDataset, Photo
from .objective import Diffusion
from .tokens import TokenizedPrompt, TokenizedText


@dataclass(frozen=True)
class Batch:
    """What one optimiser step trains on."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: tuple[TokenizedText, ...]
    """One per sample."""
    mask: Tensor | None = None
    """Weight of every latent pixel in the loss; None counts all."""
    prior: Batch | None = None
    """Samples of the category for prior preservation; the regulariser does not look at them."""
    prior_weight: float = 1.0
    """What the denoising loss of the prior samples counts."""

    def __len__(self) -> int:
        return len(self.timesteps)

    def to(self, device: torch.device) -> Batch:
        """On a device; a copy to a card is queued, not waited for."""
        return Batch(
            _sent(self.latents, device),
            _sent(self.noise, device),
            _sent(self.timesteps, device),
            self.prompts,
            None if self.mask is None else _sent(self.mask, device),
            None if self.prior is None else self.prior.to(device),
            self.prior_weight,
        )

    def part(self, start: int, stop: int) -> Batch:
        """Samples start..stop as a batch of their own, without prior samples."""
        piece = slice(start, stop)
        return Batch(
            self.latents[piece],
            self.noise[piece],
            self.timesteps[piece],
            self.prompts[piece],
            None if self.mask is None else self.mask[piece],
        )

    def parts(self, size: int) -> Iterator[Batch]:
        """The samples in order, up to `size` at a time."""
        for start in range(0, len(self), size):
            yield self.part(start, start + size)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class BatchSource(Protocol):
    """Where the trainer takes batches from."""

    def __getitem__(self, step: int, /) -> Batch: ...


def step_generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by a key, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def in_rounds(index: int, count: int, *key: object) -> int:
    """Which of `count` things draw `index` takes: all of them once per round, each round in an
    order of its own, decided by the key."""
    round_, place = divmod(index, count)
    return int(torch.randperm(count, generator=step_generator(*key, round_))[place])


def draw_noise(
    shape: torch.Size, timesteps: int, offset_noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """eps of this shape (B, C, Y, X), with a share constant over each channel, and t (B,)."""
    noise = torch.randn(shape, generator=generator)
    t = torch.randint(0, timesteps, shape[:1], generator=generator)
    if offset_noise:
        noise = noise + offset_noise * torch.randn((*shape[:2], 1, 1), generator=generator)
    return noise, t


class PhotoBatches:
    """Batches drawn from a concept dataset: every photo once per round, in a shuffled order."""

    def __init__(
        self,
        dataset: ConceptDataset,
        prompt: TokenizedPrompt,
        config: StageConfig,
        diffusion: Diffusion,
        encode_image: Callable[[Tensor], Tensor],
    ) -> None:
        self._dataset = dataset
        self._prompt = prompt
        self._config = config
        self._timesteps = diffusion.timesteps
        self._encode_image = encode_image
        self._kept: dict[tuple[str, Crop], tuple[Tensor, Tensor]] = {}
        data = config.data
        self._pool = [
            draw_crop(data.augmentation, step_generator("pool", config.seed, slot))
            for slot in range(data.latent_pool)
        ]
        if data.augmentation == "none" and not self._pool:
            self._pool = [Crop()]  # there is no other

    def fill(self, told: Callable[[int, int], None] | None = None) -> bool:
        """Encodes the pool, if the stage draws more samples than it holds; whether nothing will be
        encoded any more. `told` hears how many crops are done, and of how many."""
        wanted = {(p.digest, crop): p for p in self._dataset.photos for crop in self._pool}
        if not 0 < len(wanted) <= self._config.steps * self._config.batch_size:
            return False
        for done, ((digest, crop), photo) in enumerate(wanted.items(), start=1):
            self._kept[digest, crop] = self._encode(photo, crop)
            if told is not None:
                told(done, len(wanted))
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
        return photos[in_rounds(index, len(photos), "round", config.seed, config.stage)]

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
