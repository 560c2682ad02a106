"""The sizes that a model is told are those of the pixels that it is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.augmentation import Crop, render_bytes
from attndreambooth.attndb.data.bucket import bucket_of
from attndreambooth.attndb.data.crop_sizes import crop_sizes, turned_size
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.photo import Photo
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.devkit.tiny_model import prompt_of

SIDE = 64


@pytest.mark.parametrize("size", [(300, 200), (61, 90), (64, 64), (129, 128)])
@pytest.mark.parametrize("angle", [0.0, 0.3, -12.5, 31.0, 45.0, -45.0, 90.0, 180.0])
def test_the_canvas_of_a_turned_picture_is_pils(size, angle):
    picture = Image.new("L", size)
    assert turned_size(size, angle) == picture.rotate(angle, expand=True).size


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("left", "top"), [(0.0, 0.0), (0.31, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("size", [(192, 64), (64, 160)])
def test_left_and_top_are_where_the_crops_first_pixel_is_seen(size, left, top, flip):
    """A picture whose brightness is the place: it has the crop's side, so nothing is scaled."""
    width, height = size
    across = np.tile(np.arange(width, dtype=np.uint8), (height, 1))
    down = np.tile(np.arange(height, dtype=np.uint8)[:, None], (1, width))
    picture = Image.fromarray(np.stack([across, down, down], axis=-1))
    crop = Crop(0.0, flip, left, top)
    pixels, _ = render_bytes(picture, crop, SIDE)
    seen_left, seen_top = int(pixels[0, 0, 0]), int(pixels[0, 0, 1])
    if flip:  # where that pixel is in the mirrored photo
        seen_left = width - 1 - seen_left
    assert crop_sizes(size, crop, SIDE) == (height, width, seen_top, seen_left, SIDE, SIDE)


def test_a_crop_of_another_shape_says_its_own_height_and_width():
    crop = Crop(0.0, False, 1.0, 1.0)
    assert crop_sizes((600, 300), crop, (80, 48)) == (300, 600, 0, 16, 48, 80)


def test_sizes_of_a_scaled_photo_are_its_own_and_the_crop_is_in_the_scaled_one():
    assert crop_sizes((600, 300), Crop(0.0, False, 0.5, 0.5), 100) == (300, 600, 0, 50, 100, 100)


def batches(**data) -> PhotoBatches:
    generator = np.random.default_rng(0)
    photos = [
        Photo(
            f"{i}.png", Image.fromarray(generator.integers(0, 255, (96, 64 + 40 * i, 3), np.uint8))
        )
        for i in range(2)
    ]
    dataset = ConceptDataset(photos=tuple(photos), category="doll", placeholder="<x>")
    config = StageConfig(
        stage=2,
        steps=4,
        batch_size=3,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        data=DataConfig(resolution=SIDE, **data),
    )

    def encode(pixels):
        return pixels[:, ::8, ::8, :].movedim(-1, 1)

    return PhotoBatches(dataset, (prompt_of(),), config, 1000, encode, sized=True)


def expected(samples, side=None) -> list[list[float]]:
    found = []
    for photo, crop in samples:
        size = photo.image.size
        found.append(list(map(float, crop_sizes(size, crop, side or bucket_of(size, SIDE)))))
    return found


@pytest.mark.parametrize("data", [{}, {"latent_pool": 0}, {"augmentation": "none"}])
def test_every_sample_of_a_batch_has_the_sizes_of_its_own_crop(data):
    source = batches(**data)
    for step in range(3):
        batch = source[step]
        assert batch.sizes.tolist() == expected(source.samples(step), SIDE)
        assert torch.equal(batch.part(1, 3).sizes, batch.sizes[1:])
        assert torch.equal(batch.to(torch.device("cpu")).sizes, batch.sizes)


def test_of_several_shapes_each_has_the_sizes_of_its_samples():
    source = batches(aspect_buckets=True, augmentation="none")
    several = 0
    for step in range(4):
        batch, samples = source[step], source.samples(step)
        several += len(batch.shapes) > 1
        told = [row for part in batch.shapes for row in part.sizes.tolist()]
        assert sorted(told) == sorted(expected(samples))
        for part in batch.shapes:
            height, width = (8 * side for side in part.latents.shape[-2:])
            assert [row[4:] for row in part.sizes.tolist()] == [[height, width]] * len(part)
    assert several
