"""Which photo a sample of ViCo looks at."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from attndreambooth.attndb.data.augmentation import Crop
from attndreambooth.attndb.data.latent_source import LatentSource
from attndreambooth.attndb.data.photo import Photo
from attndreambooth.attndb.data.reference_photos import ReferencePhotos


def photos(count: int) -> list[Any]:
    return [Photo(f"{n}.png", Image.new("RGB", (40, 32), (9 * n, 0, 0))) for n in range(count)]


def test_a_reference_is_another_photo_whole_and_encoded_once():
    encoded = []

    def encode(pixels: Tensor) -> Tensor:
        encoded.append(pixels)
        return F.avg_pool2d(pixels.movedim(3, 1), 8)

    source = LatentSource(encode, 32)
    pictures = photos(3)
    references = ReferencePhotos(pictures, source, 0, 1)
    own = [(index, index % 3) for index in range(60)]
    drawn = references.of(own)
    plain = torch.stack([source(photo, Crop())[0] for photo in pictures])
    which = [next(n for n in range(3) if torch.equal(plain[n], latent)) for latent in drawn]
    assert all(number != index % 3 for number, (index, _) in zip(which, own, strict=True))
    assert {number for number, (_, mine) in zip(which, own, strict=True) if mine == 0} == {1, 2}
    assert len(encoded) == 3 + 3  # the plain ones again
    assert torch.equal(ReferencePhotos(pictures, source, 0, 1).of(own), drawn)
    assert not torch.equal(ReferencePhotos(pictures, source, 1, 1).of(own), drawn)
    [alone] = ReferencePhotos(pictures[:1], source, 0, 1).of([(5, 0)])
    assert torch.equal(alone, plain[0])
