"""LatentSource: from a photo and a crop to a latent and its mask.

Shapes: B crops, R pixels of a side (of a bucket: height and width), C latent channels, Y X latent
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from .augmentation import Crop, as_floats, keeping_subject, render_bytes, render_levels
from .bucket import Side, bucket_of, width_height
from .large_photo import LargePhoto, is_large
from .mask import area_mean, whole
from .photo import Photo

Encoded = tuple[Tensor, Tensor]
"""A crop's latent (C, Y, X) and the weights of its pixels in the loss (1 or 2, Y, X)."""


@dataclass(frozen=True)
class RenderedCrop:
    """A crop's pixels, before they are encoded."""

    pixels: np.ndarray
    """(R, R, 3) uint8."""
    mask: np.ndarray
    """(R, R) bool: True where the photo is, False where rotation filled."""
    subject: np.ndarray | None = None
    """(R, R) uint8: 255 where the subject is; None: nobody said."""


class LatentSource:
    """Renders crops of photos, in any thread, and encodes them, in the model's own."""

    def __init__(
        self,
        encode_image: Callable[[Tensor], Tensor],
        resolution: int,
        *,
        repeats: bool = True,
        masked: bool = False,
        keep_subject: bool = False,
        aspect_buckets: bool = False,
    ) -> None:
        """`encode_image`: latents (B, C, Y, X) of pixels (B, R, R, 3) in 0..1.

        repeats: whether photos come again, so that what a large one is reduced to is kept.
        masked: whether the weights of a crop are two: (2, Y, X), the second the share of subject.
        keep_subject: whether crops are cut where the subject is whole, if a mask says where it is.
        aspect_buckets: whether each photo is cropped in the shape that suits it.
        """
        self._encode_image = encode_image
        self._resolution = resolution
        self._repeats = repeats
        self._masked = masked
        self._keep_subject = keep_subject
        self._aspect_buckets = aspect_buckets
        self._large: dict[str, LargePhoto] = {}

    def __call__(self, photo: Photo, crop: Crop) -> Encoded:
        """The crop's latent (C, Y, X) and the weights of its pixels in the loss (1, Y, X), fp32, on
        the CPU."""
        return self.encode([self.render(photo, crop)])[0]

    def side_of(self, photo: Photo) -> Side:
        """The shape of all crops of a photo."""
        if not self._aspect_buckets:
            return self._resolution
        return bucket_of(photo.image.size, self._resolution)

    def render(self, photo: Photo, crop: Crop) -> RenderedCrop:
        """The crop's pixels. Any thread may ask; the answer is the same bytes."""
        side, mask, crop = self.side_of(photo), self._mask(photo), self.placed(photo, crop)
        if not is_large(photo.image, side):
            levels = None if mask is None else render_levels(mask, crop, side)
            return RenderedCrop(*render_bytes(photo.image, crop, side), levels)
        large = self._reduced(photo)
        return RenderedCrop(*large.render_bytes(crop), large.render_levels(crop))

    def placed(self, photo: Photo, crop: Crop) -> Crop:
        """The crop as it is cut: moved to where the subject is whole, if that is asked for."""
        side, mask = self.side_of(photo), self._mask(photo)
        if not self._keep_subject:
            return crop
        if is_large(photo.image, side):
            return self._reduced(photo).keeping_subject(crop)
        return crop if mask is None else keeping_subject(crop, mask, side)

    def _mask(self, photo: Photo) -> Image.Image | None:
        return photo.mask if self._masked else None

    def _reduced(self, photo: Photo) -> LargePhoto:
        large = self._large.get(photo.key)
        if large is None:
            large = LargePhoto(photo.image, self.side_of(photo), self._mask(photo))
            if self._repeats:
                large = self._large.setdefault(photo.key, large)
        return large

    def encode(self, crops: Sequence[RenderedCrop], *, together: bool = False) -> list[Encoded]:
        """Latent (C, Y, X) and weights (1, Y, X) of each crop, fp32, on the CPU. `together`: these
        in one call, for whoever always asks for the same ones. Else each has a call of its own:
        autoencoders give other last bits for another count of pictures, and a host may split a call
        by the memory that happens to be free, so only single calls give the same bytes always."""
        if not crops:
            return []
        floats = [as_floats(crop.pixels, crop.mask) for crop in crops]
        size = len(crops) if together else 1
        latents_CYX: list[Tensor] = []
        for start in range(0, len(crops), size):
            pixels_BRR3 = np.stack([pixels for pixels, _ in floats[start : start + size]])
            latents_CYX += self._encode_image(torch.from_numpy(pixels_BRR3)).float().cpu().unbind()
        return [
            (latent, torch.from_numpy(self._weights(weights, crop.subject, _size(latent))))
            for latent, (_, weights), crop in zip(latents_CYX, floats, crops, strict=True)
        ]

    def _weights(
        self, fill: np.ndarray, subject: np.ndarray | None, side: tuple[int, int]
    ) -> np.ndarray:
        photo = latent_mask(fill, side)
        if not self._masked:
            return photo
        share = whole(side) if subject is None else area_mean(subject, side)
        return np.concatenate([photo, share])


def _size(latent_CYX: Tensor) -> tuple[int, int]:
    return latent_CYX.shape[-1], latent_CYX.shape[-2]


def latent_mask(weights: np.ndarray, side: Side) -> np.ndarray:
    """Pixel weights (R, R) as latent weights (1, side, side): 1 where all the pixels are photo.

    A crop of fill alone counts whole, so that no sample is without a loss.
    """
    width, height = width_height(side)
    blocks = rearrange(weights, "(y a) (x b) -> y x (a b)", y=height, x=width)
    mask = (blocks.min(axis=-1) > 0).astype(np.float32)[None]
    return mask if mask.any() else np.ones_like(mask)
