"""Which crops of a pool are drawn when, and which of them a stage encodes."""

from __future__ import annotations

import torch
from support.latent_pools import CROPS, MASK, PHOTOS, batches, photos


def turns(source, steps):
    """A photo's crops in the order in which they are drawn, by its name."""
    found = {}
    for step in range(steps):
        for photo, crop in source.samples(step):
            found.setdefault(photo.name, []).append(crop)
    return found


def test_every_crop_of_a_photo_has_its_turn_before_one_comes_again():
    """Rounds of 5 crops of 3 photos in steps of 4 samples, counted by hand; noise and timesteps
    are those of a training without a pool."""
    source, _ = batches()
    bare, _ = batches(changes={"latent_pool": 0})
    for step in range(9):
        assert torch.equal(source[step].noise, bare[step].noise)
        assert torch.equal(source[step].timesteps, bare[step].timesteps)
    orders = turns(source, 3 * PHOTOS * CROPS)
    assert len(orders) == PHOTOS
    for drawn in orders.values():
        rounds = [tuple(drawn[n : n + CROPS]) for n in range(0, len(drawn) - CROPS + 1, CROPS)]
        assert len(rounds) >= 11 and all(len(set(each)) == CROPS for each in rounds)
        assert len({frozenset(each) for each in rounds}) == 1 and len(set(rounds)) > 2
    assert len({crop for drawn in orders.values() for crop in drawn}) == PHOTOS * CROPS  # its own


def test_all_stages_draw_the_same_crops_first_and_of_a_larger_pool_too():
    first = turns(batches(stage=1)[0], 3)  # 12 samples of 3 photos
    for other in (batches(stage=3)[0], batches(stage=2, changes={"latent_pool": 50})[0]):
        later = turns(other, 3)
        assert {name: set(drawn) for name, drawn in later.items()} == {
            name: set(drawn) for name, drawn in first.items()
        }


def test_a_photo_has_its_crops_whatever_photos_and_masks_there_are():
    alone = turns(batches(of=photos()[1:2])[0], 9)
    masked = turns(batches(of=photos(mask=MASK))[0], 9)
    among = turns(batches()[0], 9)
    assert set(alone["1"]) == set(masked["1"]) == set(among["1"])


def test_a_stage_encodes_what_it_draws_and_the_next_only_what_is_more(tmp_path):
    """9 samples of 3 photos are 3 turns, two calls of two; 24 are 8, of which 4 are on disk."""
    changes = {"changes": {"latent_pool": 20}}
    short, encoder = batches(tmp_path, stage=1, steps=2, **changes)
    assert short.fill() and encoder.sizes == [2, 2] * PHOTOS
    told = []
    longer, encoder = batches(tmp_path, steps=6, **changes)
    assert longer.fill(lambda *done: told.append(done)) and encoder.sizes == [2, 2] * PHOTOS
    assert told[-1] == (12, 12)
    whole, _ = batches(steps=6, **changes)
    whole.fill()
    for step in range(6):
        assert torch.equal(longer[step].latents, whole[step].latents)
        assert len(encoder.sizes) == 2 * PHOTOS
    again, encoder = batches(tmp_path, stage=3, steps=4, **changes)
    assert again.fill() and encoder.sizes == []


def test_crops_that_are_alike_are_encoded_once_and_have_all_their_turns():
    """With flips alone there are two crops, and a quarter of the turns is mirrored, not half."""
    changes = {"latent_pool": 400, "max_angle": 0.0, "random_crop": False}
    source, encoder = batches(steps=300, changes=changes)
    assert source.fill() and encoder.sizes == [2] * PHOTOS
    for drawn in turns(source, 300).values():
        assert 0.18 < sum(crop.flip for crop in drawn) / len(drawn) < 0.32
    assert len(encoder.sizes) == PHOTOS
