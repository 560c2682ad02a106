"""How photos become training samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from .choices import Augmentation, require, require_choice

AUTO = -1
"""As `latent_pool`: POOL crops per photo, where crops are drawn at all."""
POOL = 128
"""Crops per photo of an automatic pool, of which a stage encodes as many as it draws. Chosen on the
embedded model alone (the table in docs/speed.md): from it on more crops change neither the loss on
crops that no training drew, nor more of the pictures' scores than chance does. On trained SD
weights nobody measured it."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How photos become training samples."""

    resolution: int = 512
    """Side of the square crop in pixels, a multiple of 8. With `aspect_buckets`: of the square
    whose area no crop exceeds."""
    augmentation: Augmentation = "reference"
    """`reference`: rotation up to 45 degrees (p 0.75), flip (p 0.25), random crop, as published.
    `none`: resize and centre crop only."""
    max_angle: float = 45.0
    """Most that `reference` turns a photo, degrees either way; 0: not at all. Published: 45."""
    flip: bool = True
    """Whether `reference` mirrors a photo left to right at times. Published: yes."""
    random_crop: bool = True
    """Whether `reference` cuts anywhere along the longer side, or in the middle of it. Published:
    anywhere."""
    keep_subject: bool = False
    """Cut where the subject is whole, on photos whose mask says where it is; also with `none`.
    Published: no."""
    aspect_buckets: bool = False
    """Crop every photo in the shape that is nearest to its own, of about the square's area,
    instead of a square; prior images stay squares. Published: squares."""
    mask_fill: bool = True
    """Leave the black corners that rotation makes out of the loss. The published code trains on
    them (about 27 % of a square photo's pixels)."""
    latent_pool: int = AUTO
    """Augmented latents kept per photo and drawn again: with a pool the VAE runs once for each of
    them. AUTO: a number that serves; 0 encodes a new one for every sample, as published."""

    def __post_init__(self) -> None:
        require(
            self.resolution >= 32 and self.resolution % 8 == 0,
            "resolution",
            self.resolution,
            "use a multiple of 8, at least 32",
        )
        require_choice("augmentation", self.augmentation, get_args(Augmentation))
        require(
            0 <= self.max_angle <= 180, "max_angle", self.max_angle, "use 0 (off) to 180 degrees"
        )
        remedy = "use -1 (auto), 0 (no pool) or crops per photo"
        require(self.latent_pool >= AUTO, "latent_pool", self.latent_pool, remedy)

    @property
    def one_crop(self) -> bool:
        """Whether every draw of a photo is the same crop."""
        varied = bool(self.max_angle) or self.flip or self.random_crop
        return self.augmentation == "none" or not varied

    @property
    def crops(self) -> int:
        """Encoded crops kept per photo; 0: no pool. Photos that are not augmented have one crop,
        which is always kept and needs none."""
        if self.latent_pool != AUTO:
            return self.latent_pool
        return 0 if self.one_crop else POOL

    @property
    def encodes_between_steps(self) -> bool:
        """Whether every sample is a new crop, so that photos are encoded between the steps."""
        return not self.crops and not self.one_crop
