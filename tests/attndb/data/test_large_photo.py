"""Large photos are reduced once; small ones, and crops that are not turned, keep their bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.data import large_photo
from attndreambooth.attndb.data.augmentation import Crop, as_floats, draw_crop, render
from attndreambooth.attndb.data.large_photo import DETAIL, LargePhoto, is_large
from attndreambooth.attndb.data.latent_source import LatentSource
from attndreambooth.attndb.data.photo import Photo

SIDE = 64


def picture(width, height, seed=0):
    """Waves of several lengths, the shortest of four pixels, with some grain."""
    y, x = np.mgrid[:height, :width]
    waves = sum(np.sin(x / a + y / b) for a, b in ((2, 9), (11, 5), (40, 70)))
    grain = np.random.default_rng(seed).normal(0, 0.2, (height, width))
    levels = 128 + 30 * (waves + grain)[..., None] * np.array([1.0, 0.8, -0.6])
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def draws(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [draw_crop("reference", generator) for _ in range(count)]


def encode(pixels):
    return torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2), 8)


def test_a_photo_with_no_more_than_its_crops_show_is_not_large():
    side = DETAIL * SIDE
    assert not is_large(picture(side, 3 * side), SIDE)
    assert is_large(picture(side + 1, side + 1), SIDE)


@pytest.mark.parametrize("size", [(80, 100), (DETAIL * SIDE, 200)])
def test_a_small_photo_keeps_the_published_order_to_the_byte(size):
    source, photo = LatentSource(encode, SIDE), Photo("a", picture(*size))
    for crop in draws(12):
        rendered = source.render(photo, crop)
        found = as_floats(rendered.pixels, rendered.mask)
        expected = render(photo.image, crop, SIDE)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_crop_that_is_not_turned_has_the_published_bytes_at_any_size():
    image = picture(700, 500)
    large = LargePhoto(image, SIDE)
    for crop in [Crop(), Crop(flip=True, left=0.1, top=0.9), Crop(left=1.0, top=0.0)]:
        found = as_floats(*large.render_bytes(crop))
        expected = render(image, crop, SIDE)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_turned_crop_of_a_large_photo_shows_the_same():
    image = picture(1500, 1100)
    large = LargePhoto(image, SIDE)
    for crop in [crop for crop in draws(7) if crop.angle]:
        pixels, mask = as_floats(*large.render_bytes(crop))
        true_pixels, true_mask = render(image, crop, SIDE)
        both = (mask * true_mask) > 0
        # the canvas is a whole number of pixels: it may lie up to a pixel of the reduced photo off
        assert (mask != true_mask).mean() < 4 / SIDE
        shifted = min(
            np.abs(np.roll(true_pixels, (dy, dx), (0, 1)) - pixels)[both].mean()
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        )
        assert shifted < 0.25 * true_pixels[both].std()
        assert np.abs(pixels[both].mean(0) - true_pixels[both].mean(0)).max() < 0.01
        assert pixels[both].std() == pytest.approx(true_pixels[both].std(), rel=0.1)


def test_it_is_reduced_once(monkeypatch):
    made = []
    plain = Image.Image.resize

    def counted(self, size, *others, **named):
        if self.size == (600, 500):
            made.append(size)
        return plain(self, size, *others, **named)

    source, photo = LatentSource(encode, SIDE), Photo("a", picture(600, 500))
    monkeypatch.setattr(Image.Image, "resize", counted)
    for crop in draws(20):
        source.render(photo, crop)
    assert len(made) == 2  # one to turn, one to cut


def test_what_does_not_come_again_is_not_kept(monkeypatch):
    made = []
    monkeypatch.setattr(large_photo.LargePhoto, "__del__", lambda self: made.append(1), False)
    source, photo = LatentSource(encode, SIDE, repeats=False), Photo("a", picture(600, 500))
    source.render(photo, Crop())
    assert made == [1]


def test_encoded_together_or_one_by_one_a_crop_is_the_same_picture():
    calls = []

    def counted(pixels):
        calls.append(len(pixels))
        return encode(pixels)

    photo = Photo("a", picture(90, 80))
    source = LatentSource(counted, SIDE)
    crops = [source.render(photo, crop) for crop in draws(5)]
    one, all_ = source.encode(crops), source.encode(crops, together=True)
    for (a, mask_a), (b, mask_b) in zip(one, all_, strict=True):
        torch.testing.assert_close(a, b)
        assert torch.equal(mask_a, mask_b) and a.shape == (3, 8, 8) and mask_a.shape == (1, 8, 8)
    assert calls == [1] * 5 + [5]
    assert source.encode([]) == []
