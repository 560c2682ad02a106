"""Aspect buckets: a photo is cropped in its own shape, its mask with it; every sample counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from support.prior import gradient_of, stage
from support.slow_loss import slow_denoising, slow_regularization

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.data.bucket import bucket_of, buckets
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.latent_source import LatentSource
from attndreambooth.attndb.data.photo import Photo
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.attndb.data.training_crops import training_crops
from attndreambooth.attndb.dataset_preview import dataset_preview
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.devkit.tiny_model import prompt_of, tiny_model

SIDE = 64
SIZES = [(120, 80), (80, 120), (90, 88), (200, 60)]


def photo(number, size, masked=True):
    """A picture of two colours, the subject's bright, and its mask."""
    width, height = size
    mask = Image.new("L", size, 0)
    mask.paste(255, (width // 4, height // 4, width // 2, 3 * height // 4))
    pixels = np.random.default_rng(number).integers(20, 60, (height, width, 3), dtype=np.uint8)
    pixels[np.asarray(mask) > 0] += 180
    return Photo(f"{number}.png", Image.fromarray(pixels), mask=mask if masked else None)


def encode(pixels):
    blocks = torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2), 8)
    return torch.cat([blocks, blocks.mean(dim=1, keepdim=True)], dim=1)


def given(sizes=SIZES, masked=True, background=0.25):
    photos = tuple(photo(i, size, masked) for i, size in enumerate(sizes))
    return ConceptDataset(photos, "doll", "<x>", background=background)


def settings(number=2, *, on=True, **data):
    config = {"resolution": SIDE, "latent_pool": 0, "aspect_buckets": on, **data}
    return stage(number, batch_size=6, data=DataConfig(**config))


def batches_of(dataset, **data):
    return PhotoBatches(dataset, [prompt_of()], settings(**data), 1000, encode)


@pytest.mark.parametrize("resolution", [32, 64, 96, 200, 256, 512, 520, 768])
def test_a_bucket_is_no_larger_than_the_square_and_no_longer_than_two(resolution):
    found = buckets(resolution)
    assert (resolution, resolution) in found
    assert {(height, width) for width, height in found} == set(found)
    for width, height in found:
        assert width * height <= resolution**2 and max(width, height) <= 2 * resolution
        assert min(width, height) >= resolution / 2 and width % 8 == height % 8 == 0


def test_the_buckets_of_stable_diffusion_are_multiples_of_64():
    assert all(side % 64 == 0 for size in buckets(512) for side in size)
    assert {(640, 384), (448, 576), (512, 512), (768, 320)} <= set(buckets(512))


def test_the_bucket_of_a_photo_is_the_nearest_in_proportion():
    random = np.random.default_rng(5)
    for _ in range(200):
        size = tuple(int(n) for n in random.integers(50, 4000, 2))
        gaps = [abs(math.log(w / h / (size[0] / size[1]))) for w, h in buckets(512)]
        width, height = bucket_of(size, 512)
        assert abs(math.log(width / height / (size[0] / size[1]))) <= min(gaps) + 1e-8
        assert bucket_of(size[::-1], 512) == (height, width)
    assert bucket_of((3000, 3000), 512) == (512, 512)
    assert bucket_of((10000, 100), 512) == max(buckets(512), key=lambda s: s[0] / s[1])


@pytest.mark.parametrize("scale", [1, 6])  # of the large photo only a reduced copy is turned
@pytest.mark.parametrize("keep", [False, True])
def test_picture_and_mask_are_turned_mirrored_and_cut_together(scale, keep):
    dataset = given([(scale * w, scale * h) for w, h in SIZES])
    config = settings(keep_subject=keep)
    for own, one in zip(training_crops(dataset, config, 6, 9), dataset.photos, strict=True):
        width, height = bucket_of(one.image.size, SIDE)
        for crop in own:
            assert crop.pixels.shape == (height, width, 3)
            assert crop.counted.shape == (height, width)
            bright, inside = crop.pixels.mean(axis=2) > 140, crop.counted > 0.625
            assert (bright != inside).mean() < 0.05  # but for the edge
            assert not keep or inside.any()


def test_a_photo_of_a_bucket_s_shape_loses_nothing():
    pixels = np.random.default_rng(1).integers(0, 256, (80, 48, 3), dtype=np.uint8)
    one = Photo("a.png", Image.fromarray(pixels))
    source = LatentSource(encode, SIDE, aspect_buckets=True)
    [own] = training_crops(
        ConceptDataset((one,), "doll", "<x>"), settings(augmentation="none"), 1, 1
    )
    assert source.side_of(one) == (48, 80)
    assert np.array_equal(own[0].pixels, pixels)


def test_samples_of_every_shape_are_in_the_batch_with_their_own_masks():
    batch = batches_of(given())[0]
    assert len(batch.others) >= 2 and sum(len(one) for one in batch.shapes) == 6
    for one in batch.shapes:
        rows, columns = one.latents.shape[2:]
        assert (8 * columns, 8 * rows) in buckets(SIDE)
        assert one.noise.shape == one.latents.shape
        assert one.mask.shape == one.subject.shape == (len(one), 1, rows, columns)
        assert len(one.prompts) == len(one.timesteps) == len(one)
    assert len({one.latents.shape[2:] for one in batch.shapes}) == len(batch.shapes)


def test_square_photos_are_trained_on_as_without_buckets():
    dataset = given([(90, 90), (70, 70)])
    plain, found = (batches_of(dataset, on=on)[3] for on in (False, True))
    assert found.others == ()
    for name in ("latents", "noise", "timesteps", "mask", "subject"):
        assert torch.equal(getattr(plain, name), getattr(found, name))


@pytest.mark.parametrize("pool", [0, 3])
def test_a_batch_is_the_same_whenever_it_is_asked_for(pool):
    dataset = given()
    one, other = (batches_of(dataset, latent_pool=pool) for _ in range(2))
    if pool:
        other.fill()
    again = other[2]
    for here, there in zip(one[2].shapes, again.shapes, strict=True):
        for name in ("latents", "noise", "timesteps", "mask"):
            assert torch.equal(getattr(here, name), getattr(there, name))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_loss_is_the_mean_over_all_shapes_and_parts_of_any_size_add_up_to_it(number):
    batch = batches_of(given(background=0.25))[0]
    totals = LossTotals.of(batch)
    values = sum(float(one.mask.double().sum()) * 4 for one in batch.shapes)
    assert totals.values == pytest.approx(values)
    whole, loss = gradient_of(number, batch)
    with torch.no_grad():
        model, weights = tiny_model(), stage(number).regularization
        counts = [float(one.mask.sum()) for one in batch.shapes]
        slow = [float(slow_denoising(model, one, 0.0)) for one in batch.shapes]
        mean = sum(c * s for c, s in zip(counts, slow, strict=True)) / sum(counts)
        tied = sum(float(slow_regularization(model, one, weights)) for one in batch.shapes)
    assert loss.shares["denoising"] == pytest.approx(mean, rel=1e-5)
    if weights.active:
        assert loss.shares["attention_map"] == pytest.approx(tied, rel=1e-4)
    parts, same = gradient_of(number, batch, micro_batch=1)
    assert same.shares["denoising"] == pytest.approx(loss.shares["denoising"], rel=1e-5)
    one = torch.cat([g.flatten() for g in whole.values()])
    other = torch.cat([parts[name].flatten() for name in whole])
    rounding = torch.finfo(torch.float32).eps * one.numel() ** 0.5
    assert float((one - other).norm() / one.norm()) < 10 * rounding


def test_the_base_is_asked_about_every_shape():
    batch = batches_of(given())[0]
    plain = batch.for_base()
    assert [one.latents.shape for one in plain.shapes] == [
        one.latents.shape for one in batch.shapes
    ]
    assert all(part.of_base for part in plain.parts(2))
    assert sum(len(part) for part in plain.parts(2)) == 6
    moved = batch.to(torch.device("cpu"))
    assert len(moved.others) == len(batch.others)


def test_the_preview_shows_the_shapes():
    found = dataset_preview(given(), settings(), 2, {})
    assert "64 px in aspect buckets" in found.text
    assert "80 x 48" in found.text and "48 x 80" in found.text
    plain = dataset_preview(given(), settings(on=False), 2, {})
    enlarged = "are enlarged"  # in squares alone: a line of the picture less
    assert enlarged in plain.text and enlarged not in found.text
    assert found.picture.shape[1:] == plain.picture.shape[1:]


def test_settings_without_buckets_are_recorded_as_before():
    assert "aspect_buckets" not in settings(on=False).as_dict()["data"]
    assert settings().as_dict()["data"]["aspect_buckets"] is True
