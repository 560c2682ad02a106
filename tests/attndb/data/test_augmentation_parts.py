"""Each part of the augmentation can be left out, and a crop can keep the subject whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.augmentation import (
    MAX_ANGLE,
    Crop,
    draw_crop,
    draw_crop_of,
    keeping_subject,
    render_levels,
)
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.large_photo import is_large
from attndreambooth.attndb.data.latent_source import LatentSource
from attndreambooth.attndb.data.photo import Photo
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.devkit.tiny_model import prompt_of

SIDE = 64
PARTS = {"max_angle": 0.0, "flip": False, "random_crop": False}
SWITCHES = list(itertools.product([False, True], repeat=3))


def draws(count=60, seed=3, **parts):
    generator = torch.Generator().manual_seed(seed)
    crops = [draw_crop_of(DataConfig(resolution=SIDE, **parts), generator) for _ in range(count)]
    return crops, generator.get_state()


def test_the_defaults_are_the_published_augmentation_draw_for_draw():
    generator = torch.Generator().manual_seed(3)
    published = [draw_crop("reference", generator) for _ in range(60)]
    assert draws()[0] == published
    assert DataConfig().max_angle == MAX_ANGLE
    first = torch.rand(5, generator=torch.Generator().manual_seed(3)).tolist()
    expected = (2.0 * first[1] - 1.0) * 45.0 if first[0] < 0.75 else 0.0
    assert published[0] == Crop(expected, first[2] < 0.25, first[3], first[4])


@pytest.mark.parametrize("left_out", SWITCHES)
def test_what_is_left_out_changes_nothing_of_the_rest(left_out):
    names = [name for name, out in zip(PARTS, left_out, strict=True) if out]
    whole, state = draws()
    crops, after = draws(**{name: PARTS[name] for name in names})
    assert torch.equal(state, after)
    for crop, published in zip(crops, whole, strict=True):
        assert crop.angle == (0.0 if "max_angle" in names else published.angle)
        assert crop.flip == (False if "flip" in names else published.flip)
        place = (crop.left, crop.top)
        centre = "random_crop" in names
        assert place == ((0.5, 0.5) if centre else (published.left, published.top))
    data = DataConfig(**{name: PARTS[name] for name in names})
    assert data.one_crop is (len(names) == 3)
    if data.one_crop:
        assert set(crops) == {Crop()} and str(crops[0].angle) == "0.0"


def test_a_smaller_angle_turns_as_often_and_less():
    whole, _ = draws()
    crops, _ = draws(max_angle=9.0)
    for crop, published in zip(crops, whole, strict=True):
        assert crop.angle == pytest.approx(published.angle / 5)


@pytest.mark.parametrize("angle", [-1.0, 180.5, float("nan")])
def test_an_angle_that_is_none_is_refused(angle):
    with pytest.raises(ValueError, match=r"max_angle = .*: use 0 \(off\) to 180 degrees"):
        DataConfig(max_angle=angle)


def stage(**data):
    return StageConfig(
        stage=1,
        steps=9,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        data=DataConfig(resolution=SIDE, **{"latent_pool": 0, **data}),
    )


def test_a_record_names_a_part_only_where_it_is_not_as_published():
    known = {"resolution": 64, "augmentation": "reference", "mask_fill": True, "latent_pool": 0}
    assert stage().as_dict()["data"] == stage().identity()["data"] == known
    for name, value in {**PARTS, "keep_subject": True}.items():
        assert stage(**{name: value}).identity()["data"] == {**known, name: value}


def photo_with(box, size=(200, 80)):
    """A grey photo with a white subject, and its mask."""
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return Photo(
        "a", Image.merge("RGB", [mask.point(lambda v: 90 + v * 165 // 255)] * 3), mask=mask
    )


def slow_box(mask, crop):
    """Columns and rows of the subject on the turned and scaled mask, pixel by pixel."""
    if crop.angle:
        mask = mask.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
    scale = SIDE / min(mask.size)
    size = [max(SIDE, round(side * scale)) for side in mask.size]
    levels = np.asarray(mask.resize(size, Image.Resampling.BILINEAR))
    found = [(x, y) for y in range(size[1]) for x in range(size[0]) if levels[y, x] >= 128]
    return size, [(min(line), max(line) + 1) for line in zip(*found, strict=True)]


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (150, 30, 199, 79), (90, 10, 150, 40)])
def test_a_crop_never_cuts_a_subject_that_fits(box):
    photo, cut_before = photo_with(box), 0
    for crop in [*draws(24)[0], Crop()]:
        kept = keeping_subject(crop, photo.mask, SIDE)
        assert (kept.angle, kept.flip) == (crop.angle, crop.flip)
        size, sides = slow_box(photo.mask, crop)
        for length, (first, last), place, drawn in zip(
            size, sides, (kept.left, kept.top), (crop.left, crop.top), strict=True
        ):
            assert 0 <= place <= 1 and last - first <= SIDE
            start = round(place * (length - SIDE))
            assert start <= first and last <= start + SIDE
            before = round(drawn * (length - SIDE))
            cut_before += not (before <= first and last <= before + SIDE)
        whole = (np.asarray(render_levels(photo.mask, kept, SIDE)) >= 128).sum()
        turned, _ = slow_box(photo.mask, crop)
        assert whole == subject_pixels(photo.mask, crop, turned)
    assert cut_before > 3, "the draw alone would have cut it"


def subject_pixels(mask, crop, size):
    if crop.angle:
        mask = mask.rotate(crop.angle, resample=Image.Resampling.BILINEAR, expand=True)
    return (np.asarray(mask.resize(size, Image.Resampling.BILINEAR)) >= 128).sum()


def test_a_crop_goes_through_all_the_room_that_is_left():
    photo = photo_with((80, 0, 120, 80))
    # scaled by 0.8: the subject is at 64..96 of 160, and a crop of 64 may start at 32..64
    places = [keeping_subject(Crop(left=p), photo.mask, SIDE).left * 96 for p in (0.0, 0.5, 1.0)]
    assert places == pytest.approx([32, 48, 64])


def test_a_crop_lies_within_a_subject_that_is_too_long_for_it():
    photo = photo_with((10, 0, 190, 80))
    # at 8..152 of 160: a crop that starts at 8..88 shows nothing but subject
    places = [keeping_subject(Crop(left=p), photo.mask, SIDE).left * 96 for p in (0.0, 1.0)]
    assert places == pytest.approx([8, 88])


def test_a_mask_that_shows_nothing_leaves_the_crop():
    crop = Crop(left=0.1, top=0.9)
    assert keeping_subject(crop, Image.new("L", (200, 80), 127), SIDE) == crop


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("left_out", SWITCHES)
def test_mask_and_photo_move_together(scale, left_out):
    box = tuple(scale * edge for edge in (150, 30, 199, 79))
    photo = photo_with(box, (200 * scale, 80 * scale))
    assert is_large(photo.image, SIDE) is (scale == 4)
    parts = {name: PARTS[name] for name, out in zip(PARTS, left_out, strict=True) if out}
    for keep in (False, True):
        source = LatentSource(lambda p: p, SIDE, masked=True, keep_subject=keep)
        for crop in draws(8, **parts)[0]:
            rendered = source.render(photo, crop)
            level = (rendered.pixels[..., 0].astype(float) - 90) / 165 * 255
            apart = np.abs(level - rendered.subject)[rendered.mask]
            assert apart.mean() < 3 and np.quantile(apart, 0.9) < 16


@pytest.mark.parametrize("scale", [1, 4])
def test_only_photos_with_a_mask_are_cut_elsewhere(scale):
    photo = photo_with(tuple(scale * e for e in (150, 30, 199, 79)), (200 * scale, 80 * scale))
    bare = Photo("b", photo.image)
    plain = LatentSource(lambda p: p, SIDE, masked=True)
    keeping = LatentSource(lambda p: p, SIDE, masked=True, keep_subject=True)
    crop = Crop(left=0.0)
    assert (plain.render(bare, crop).pixels == keeping.render(bare, crop).pixels).all()
    assert plain.render(photo, crop).subject.max() == 0
    assert keeping.render(photo, crop).subject.max() == 255


@pytest.mark.parametrize("data", [{}, {"latent_pool": 3}, {"augmentation": "none"}, PARTS])
def test_a_stage_s_batches_keep_the_subject(data):
    dataset = ConceptDataset((photo_with((0, 20, 30, 60)),), "dog", "<x>")

    def encode(pixels):
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)

    def least(**more):
        config = stage(**data, **more)
        batches = PhotoBatches(dataset, (prompt_of(),), config, 1000, encode)
        return min(float(s.max()) for step in range(9) for s in batches[step].subject)

    assert least(keep_subject=True) > 0.7
    assert least() < 0.5


def test_with_every_part_left_out_a_photo_is_encoded_once():
    calls = []

    def encode(pixels):
        calls.append(len(pixels))
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)

    dataset = ConceptDataset((photo_with((0, 20, 30, 60)),), "dog", "<x>")
    batches = PhotoBatches(dataset, (prompt_of(),), stage(**PARTS), 1000, encode)
    assert batches.fill() and calls == [1]
    none = PhotoBatches(dataset, (prompt_of(),), stage(augmentation="none"), 1000, encode)
    assert torch.equal(batches[4].latents, none[4].latents) and len(calls) == 2
