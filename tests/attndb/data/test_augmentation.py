"""The published augmentation: the same draw is the same crop, and the mask marks its fill."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.data.augmentation import Crop, draw_crop, render

SIDE = 64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def white(size=(100, 100)):
    return Image.new("RGB", size, "white")


def test_the_draws_have_the_published_chances():
    crops = [draw_crop("reference", g) for g in [generator()] for _ in range(6000)]
    turned = [c.angle for c in crops if c.angle]
    assert len(turned) / 6000 == pytest.approx(0.75, abs=0.02)
    assert np.mean([c.flip for c in crops]) == pytest.approx(0.25, abs=0.02)
    assert -45 <= min(turned) < -43 and 43 < max(turned) <= 45
    assert np.mean(turned) == pytest.approx(0, abs=1.5)
    assert np.std(turned) == pytest.approx(90 / 12**0.5, abs=0.7)  # uniform
    for place in ([c.left for c in crops], [c.top for c in crops]):
        assert (np.mean(place), np.min(place) < 0.01, np.max(place) > 0.99) == (
            pytest.approx(0.5, abs=0.02),
            True,
            True,
        )


def test_27_percent_of_a_square_photo_is_fill():
    # turned by a, a unit square fills 1 / (cos a + sin a)^2 of its expanded canvas; over
    # 0..45 degrees that is 2 / pi on average, and three of four photos are turned
    truth = 0.75 * (1 - 2 / np.pi)
    assert truth == pytest.approx(0.27, abs=0.005)
    black, left_out = [], []
    for number in range(160):
        # stratified angles: the draw's own chances have their test
        crop = Crop(angle=90 * (number + 0.5) / 160 - 45)
        pixels, mask = render(white((256, 256)), crop, 256)
        black.append((pixels[..., 0] < 0.5).mean())
        left_out.append(1 - mask.mean())
    assert 0.75 * np.mean(black) == pytest.approx(truth, abs=0.006)
    assert truth < 0.75 * np.mean(left_out) < truth + 0.015


def test_the_mask_marks_the_fill_and_nothing_else():
    g = generator(2)
    for _ in range(40):
        pixels, mask = render(white((180, 280)), draw_crop("reference", g), 2 * SIDE)
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert pixels[mask == 1].min() > 0.9  # no black within what counts: resizing rings a little
        lost = (mask == 0) & (pixels.min(axis=2) > 0.999)
        assert lost.mean() < 0.03  # what is left out is black, but for a seam


def test_without_rotation_nothing_is_fill():
    pixels, mask = render(white((90, 140)), Crop(flip=True, left=0.1, top=0.9), SIDE)
    assert mask.min() == 1 and pixels.min() == 1
    assert pixels.shape == (SIDE, SIDE, 3) and mask.shape == (SIDE, SIDE)
    assert pixels.dtype == mask.dtype == np.float32


def test_one_draw_renders_to_the_same_bytes():
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    )
    crop = draw_crop("reference", generator(4))
    assert crop == draw_crop("reference", generator(4))
    first, again = render(picture, crop, SIDE), render(picture, crop, SIDE)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))


def test_the_generator_moves_on_alike_for_every_draw():
    states = []
    for augmentation in ("reference", "none"):
        g = generator(5)
        for _ in range(10):
            draw_crop(augmentation, g)
        states.append(g.get_state())
    assert torch.equal(*states)


def ramp(width, height):
    """Red grows to the right, green downwards; in 0..1."""
    x = np.linspace(0, 1, width)[None].repeat(height, axis=0)
    y = np.linspace(0, 1, height)[:, None].repeat(width, axis=1)
    return Image.fromarray((255 * np.stack([x, y, 0 * x], axis=2)).round().astype(np.uint8))


def test_none_is_the_centre_scaled_to_the_shorter_side():
    assert draw_crop("none", generator()) == Crop()
    pixels, mask = render(ramp(256, 128), Crop(), SIDE)
    assert mask.min() == 1
    red, green = pixels[SIDE // 2, :, 0], pixels[:, SIDE // 2, 1]
    assert (red[0], red[-1]) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.75, abs=0.02))
    assert (green[0], green[-1]) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03))


@pytest.mark.parametrize(("left", "low"), [(0.0, 0.0), (1.0, 0.5)])
def test_the_crop_goes_from_border_to_border(left, low):
    red = render(ramp(256, 128), Crop(left=left), SIDE)[0][SIDE // 2, :, 0]
    assert red[0] == pytest.approx(low, abs=0.02)


def test_a_flip_mirrors_left_and_right():
    plain, flipped = (render(ramp(100, 100), Crop(flip=f), SIDE)[0] for f in (False, True))
    assert np.array_equal(plain[:, ::-1], flipped)


def test_a_small_photo_is_enlarged_and_a_thin_one_cut():
    for size in ((10, 10), (7, 300), (300, 7)):
        pixels, mask = render(ramp(*size), Crop(angle=30.0), SIDE)
        assert pixels.shape == (SIDE, SIDE, 3) and mask.shape == (SIDE, SIDE)
