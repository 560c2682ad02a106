"""The preview shows what a training draws, what counts in it, and its words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.attention.prompt_words import PromptToken
from attndreambooth.attndb.attention.token_line import token_line
from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.photo import Photo
from attndreambooth.attndb.data.photo_advice import crop_advice
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.attndb.data.tokens import TokenizedPrompt
from attndreambooth.attndb.data.training_crops import training_crops
from attndreambooth.attndb.dataset_preview import MOST_PHOTOS, dataset_preview
from attndreambooth.attndb.viz.dataset_grid import UNCOUNTED, squared, veiled
from attndreambooth.devkit.tiny_model import prompt_of

SIDE = 64


def photo(number, box=None, size=(120, 80), caption=None):
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    mask = None
    if box is not None:
        mask = Image.new("L", size, 0)
        mask.paste(255, box)
    return Photo(f"{number}.png", Image.fromarray(pixels), caption, mask)


def dataset(*photos, **changes):
    return ConceptDataset(photos, "dog", "<x>", **changes)


def stage(seed=4, **data):
    data = DataConfig(**{"resolution": SIDE, "latent_pool": 0, **data})
    return PRESETS["paper"]()[0].with_(seed=seed, data=data)


@pytest.mark.parametrize("data", [{}, {"latent_pool": 3}, {"augmentation": "none"}])
def test_the_crops_are_those_that_the_training_draws_first(data):
    given = dataset(*(photo(i, (0, 20, 30, 60)) for i in range(3)))
    config = stage(keep_subject=True, **data)
    shown = training_crops(given, config, 4, 12)
    seen = []

    def encode(pixels):
        seen.extend(pixels.mul(255).round().byte().numpy())
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)

    batches = PhotoBatches(given, (prompt_of(),), config, 1000, encode)
    steps = [batches[step] for step in (0, 1)]
    trained = {pixels.tobytes() for pixels in seen}
    crops = [crop for own in shown for crop in own]
    assert {crop.pixels.tobytes() for crop in crops} <= trained
    most = {"latent_pool": 3, "augmentation": 1}.get(next(iter(data), ""), 4)
    assert all(1 <= len(own) <= most for own in shown) and len(shown) == 3
    if not data:
        assert len(crops) == 12
    # what counts is what the loss gets, as means of 8 x 8 pixels, but for cells that are cut
    counted = [crop.counted.reshape(8, 8, 8, 8).mean(axis=(1, 3)) for crop in crops]
    masks = [mask[0].numpy() for batch in steps for mask in batch.mask]
    for own in counted:
        whole = [mask for mask in masks if np.abs(np.where(mask > 0, mask - own, 0)).max() < 0.02]
        assert whole


def test_photos_beyond_the_most_are_not_rendered():
    given = dataset(*(photo(i) for i in range(5)))
    shown = training_crops(given, stage(), 2, 3)
    all_of_them = training_crops(given, stage(), 2, 12)
    assert [[c.crop for c in own] for own in shown] == [
        [c.crop for c in own] for own in all_of_them[:3]
    ]


def test_what_counts_follows_background_and_fill():
    given = dataset(photo(0, (0, 20, 30, 60)), background=0.25)
    for mask_fill in (True, False):
        crops = training_crops(given, stage(mask_fill=mask_fill), 8, 1)[0]
        turned = next(crop for crop in crops if abs(crop.crop.angle) > 10)
        assert float(turned.counted.min()) == (0.0 if mask_fill else 0.25)
        assert turned.counted.max() == 1.0 and "turned" in turned.text
        assert turned.subject == pytest.approx((turned.counted > 0.6).mean(), abs=0.02)


def test_crops_without_the_subject_are_told_and_keep_subject_mends_it():
    given = dataset(photo(0, (0, 60, 20, 80), (400, 80)))
    without = training_crops(given, stage(), 8, 1)
    [line] = crop_advice(given, without, False)
    empty = sum(not crop.subject for crop in without[0])
    assert empty and line.startswith(f"{empty} of {len(without[0])} crops have no subject in them")
    kept = training_crops(given, stage(keep_subject=True), 8, 1)
    assert crop_advice(given, kept, True) == []
    bare = dataset(photo(0))
    [line] = crop_advice(bare, training_crops(bare, stage(), 2, 1), True)
    assert line.startswith("keep_subject is on, and no photo has a mask")


def test_a_preview_shows_every_photo_with_words_and_advice():
    given = dataset(
        photo(0, (20, 10, 100, 70)),
        photo(1, caption="a {} on a sofa"),
        template="a photo of a {}\na picture of a {}",
    )
    tokens = {"a <x> dog on a sofa": "a | [V] | dog (category) | on | a | sofa"}
    preview = dataset_preview(given, stage(max_angle=10.0), 3, tokens)
    lines = preview.text.splitlines()
    assert lines[0] == (
        "<x> dog: 2 photos; crops turned up to 10 degrees, mirrored at times, cut anywhere; 64 px, "
        "seed 4"
    )
    assert lines[1].startswith("1. 0.png, 120 x 80 px, sharpness ")
    assert "   a photo of a <x> dog" in lines and "   a picture of a <x> dog" in lines
    assert "   a | [V] | dog (category) | on | a | sofa" in lines
    assert sum(line.startswith("   crop ") for line in lines) == 6
    assert sum(", subject " in line for line in lines) == 3
    assert [f"! {line}" for line in preview.advice] == [x for x in lines if x.startswith("! ")]
    picture = preview.picture
    assert picture.ndim == 3 and picture.shape[-1] == 3 and 0 <= picture.min() <= picture.max() <= 1
    one = dataset_preview(dataset(photo(0)), stage(), 3, {}).picture
    assert picture.shape[0] > one.shape[0] and picture.shape[1] == one.shape[1]
    again = dataset_preview(given, stage(max_angle=10.0), 3, tokens)
    assert torch.equal(again.picture, picture) and again.text == preview.text


def test_a_large_dataset_is_shown_in_part_and_counted():
    given = dataset(*(photo(i, size=(70, 70)) for i in range(MOST_PHOTOS + 3)))
    preview = dataset_preview(given, stage(augmentation="none"), 1, {})
    assert "and 3 more photos" in preview.text and "12. 11.png" in preview.text
    assert "13. 12.png" not in preview.text and "centre crops" in preview.text


def test_a_veil_lies_over_what_does_not_count():
    picture = torch.rand(8, 8, 3)
    counted = torch.zeros(8, 8)
    counted[:4] = 1
    found = veiled(picture, counted)
    assert torch.equal(found[:4], picture[:4])
    torch.testing.assert_close(found[4:], 0.4 * picture[4:] + 0.6 * torch.tensor(UNCOUNTED))


def test_a_whole_photo_is_shown_in_the_middle_of_a_square():
    found = squared(torch.ones(20, 40, 3), 64)
    assert found.shape == (64, 64, 3)
    assert (found[16:48] > 0.99).all() and (found[:15] < 0.2).all() and (found[49:] < 0.2).all()


def test_the_tokens_of_a_prompt_stand_in_a_line_with_their_parts():
    prompt = TokenizedPrompt("a <x> backpack, red", (1, None, None, 5, 6, 7, 8), 4)
    pieces = [
        PromptToken(column=0, text="a"),
        PromptToken(column=1, vector=True),
        PromptToken(column=2, vector=True),
        PromptToken(column=3, text="back", ends_word=False),
        PromptToken(column=4, text="pack"),
        PromptToken(column=5, text=","),
        PromptToken(column=6, text="red"),
    ]
    line = token_line(prompt, pieces)
    assert line == "a | [V] | [V] | back + pack (category) | , | red"
