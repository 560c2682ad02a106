"""Encoded crops are drawn again, kept on disk, and the same bytes with and without it."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest
import torch
from PIL import Image
from support.latent_pools import CROPS, MASK, PHOTOS, batches, files, filled, photos

from attndreambooth.attndb.artifacts.owner_limit import limit_in_bytes
from attndreambooth.attndb.config.data import POOL, DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.latent_cache import LIMIT_VARIABLE, LatentCache
from attndreambooth.attndb.data.rendered_ahead import RenderedAhead, done_ahead


def test_an_automatic_pool_is_a_number_of_crops_and_recorded_as_it():
    assert DataConfig().crops == POOL and DataConfig(latent_pool=0).crops == 0
    assert DataConfig(latent_pool=7).crops == 7
    assert DataConfig(augmentation="none").crops == 0
    stage = StageConfig(
        stage=2, steps=1, batch_size=1, optimizer=OptimizerConfig(learning_rate=1e-3)
    )
    same = stage.with_(data=DataConfig(latent_pool=POOL))
    assert stage.as_dict()["data"]["latent_pool"] == POOL and stage.identity() == same.identity()
    assert stage.identity() != stage.with_(data=DataConfig(latent_pool=0)).identity()


def test_crops_of_a_photo_are_encoded_together_and_told_of():
    source, encoder = batches()
    told = []
    assert source.fill(lambda done, total: told.append((done, total)))
    assert encoder.sizes == [2, 2, 1] * PHOTOS
    ends = [2, 4, 5, 7, 9, 10, 12, 14, 15]
    assert told == [(done, 15) for done in ends]
    source[3]
    assert len(encoder.sizes) == 9


def test_the_next_training_with_these_photos_encodes_nothing_and_has_the_same_bytes(tmp_path):
    plain, calls = filled()
    first, own = filled(tmp_path)
    assert torch.equal(first, plain) and own == calls and len(files(tmp_path)) == PHOTOS
    told = []
    source, encoder = batches(tmp_path, stage=3)
    assert source.fill(lambda *done: told.append(done)) and not encoder.sizes and not told
    again, none = filled(tmp_path)
    assert torch.equal(again, plain) and none == []
    with RenderedAhead(batches(tmp_path)[0], 9) as ahead:
        ahead.fill()
        assert torch.equal(ahead[4].latents, batches_of(4, tmp_path))


def batches_of(step, folder):
    source, _ = batches(folder)
    source.fill()
    return source[step].latents


def test_of_some_new_photos_only_the_new_ones_are_encoded(tmp_path):
    filled(tmp_path)
    more = (*photos()[:2], *photos(shade=1)[:1])
    _, calls = filled(tmp_path, of=more)
    assert calls == [2, 2, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"changes": {"resolution": 48}},
        {"changes": {"augmentation": "none"}},
        {"changes": {"max_angle": 20.0}},
        {"changes": {"flip": False, "random_crop": False}},
        {"changes": {"latent_pool": 4}},
        {"of": photos(shade=1)},
        {"of": photos(mask=MASK)},
        {"identity": {"vae": "01"}},
        {"at_once": 3},
    ],
)
def test_whatever_decides_latents_is_in_the_key(tmp_path, change):
    filled(tmp_path)
    found, calls = filled(tmp_path, **change)
    assert calls, "they are not the same latents"
    change.pop("identity", None)
    plain, _ = filled(**change)
    assert torch.equal(found, plain)


def test_whether_the_subject_is_kept_whole_is_in_the_key(tmp_path):
    with_masks = photos(mask=MASK)
    filled(tmp_path, of=with_masks)
    assert filled(tmp_path, of=with_masks, changes={"keep_subject": True})[1]


@pytest.mark.parametrize("change", [{"stage": 3}, {"steps": 20}, {"changes": {"mask_fill": False}}])
def test_what_decides_no_latent_is_not(tmp_path, change):
    filled(tmp_path)
    assert filled(tmp_path, **change)[1] == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def foreign(path):
    other = LatentCache(path.parent / "other", {})
    other.write({"key": 1}, [(torch.zeros(4, 8, 8), torch.ones(1, 8, 8))] * CROPS)
    [made] = files(path.parent / "other")
    os.replace(made, path)


def nothing(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flipped, foreign, nothing])
def test_a_damaged_or_foreign_file_is_passed_over_and_written_anew(tmp_path, caplog, damage):
    plain, _ = filled(tmp_path)
    path = files(tmp_path)[1]
    sound = path.read_bytes()
    damage(path)
    found, calls = filled(tmp_path)
    assert torch.equal(found, plain) and calls == [2, 2, 1]
    assert f"{path} is passed over" in caplog.text and path.read_bytes() == sound


def test_a_disk_that_takes_nothing_is_a_warning_and_no_failure(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    plain, _ = filled()
    found, _ = filled(tmp_path / "file" / "latents")
    assert torch.equal(found, plain)
    warned = [r for r in caplog.records if "cannot be kept" in r.getMessage()]
    assert len(warned) == 1 and warned[0].levelno == logging.WARNING


def test_cancel_in_the_middle_keeps_what_is_done(tmp_path):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done > CROPS + 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        batches(tmp_path)[0].fill(cancel)
    assert len(files(tmp_path)) == 1 and not list(tmp_path.glob(".*.part"))
    assert not [t for t in threading.enumerate() if t.name.startswith("attndb-render")]
    told = []
    source, encoder = batches(tmp_path)
    assert source.fill(lambda *done: told.append(done))
    assert told[-1] == (10, 10) and sum(encoder.sizes) == 10
    assert torch.equal(source[2].latents, batches_of(2, tmp_path))


def test_the_folder_is_bounded_and_what_was_used_longest_ago_goes_first(tmp_path):
    filled(tmp_path)
    old = files(tmp_path)
    size = old[0].stat().st_size
    (tmp_path / "notes.txt").write_text("mine")
    for age, path in enumerate(old):
        os.utime(path, (time.time() - 100 - age,) * 2)
    filled(tmp_path, seed=1, limit=4.5 * size)
    assert len(files(tmp_path)) == 4 and old[0] in files(tmp_path)
    filled(tmp_path, seed=2, limit=0)
    assert (tmp_path / "notes.txt").exists() and files(tmp_path) == []


@pytest.mark.parametrize(("limit", "said"), [(900, 1), (0, 0)])
def test_a_picture_that_is_larger_than_the_folder_may_be_is_told_of_once(
    tmp_path, caplog, limit, said
):
    filled(tmp_path, limit=limit)
    assert files(tmp_path) == []
    warned = [r.getMessage() for r in caplog.records if "they are not kept" in r.getMessage()]
    assert len(warned) == said
    assert all("all may take 900 bytes" in w and LIMIT_VARIABLE in w for w in warned)


def test_the_owner_says_how_much(monkeypatch, caplog):
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert limit_in_bytes(LIMIT_VARIABLE, 5.0) == 5.0
    monkeypatch.setenv(LIMIT_VARIABLE, "0.5")
    assert limit_in_bytes(LIMIT_VARIABLE, 5.0) == 5e8
    monkeypatch.setenv(LIMIT_VARIABLE, "lots")
    assert limit_in_bytes(LIMIT_VARIABLE, 5.0) is None and "lots" in caplog.text


def test_a_pool_that_does_not_fit_into_main_memory_is_smaller_and_says_so(caplog):
    each = PHOTOS * 6 * 4 * 8 * 8
    source, encoder = batches(changes={"latent_pool": 4096}, room=3.5 * each)
    assert "4096 crops of 3 photos" in caplog.text and "3 are kept" in caplog.text
    assert source.fill() and sum(encoder.sizes) == 9
    seen = {x.numpy().tobytes() for step in range(9) for x in source[step].latents}
    assert len(seen) == 9


def test_a_pool_of_that_size_by_itself_or_by_choice_has_the_same_bytes():
    """They are one run, so that what one began the other goes on with."""
    found = []
    for size in (-1, POOL):
        source, _ = batches(changes={"latent_pool": size, "resolution": 32})
        source.fill()
        found.append(source[0].latents)
    assert torch.equal(*found)


def test_photos_that_change_on_disk_while_it_trains_change_nothing(tmp_path):
    from attndreambooth.attndb.data.folder import load_folder

    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos():
        photo.image.save(folder / f"{photo.name}.png")
    loaded = load_folder(folder)
    plain, _ = filled(of=loaded)
    source, _ = batches(of=loaded)
    for path in folder.iterdir():
        Image.new("RGB", (80, 80)).save(path)
    source.fill()
    assert torch.equal(source[0].latents.flatten(), plain[: source[0].latents.numel()])


def test_work_ahead_comes_in_order_and_raises_its_error_where_it_is_asked_for():
    def work(job):
        if job == 5:
            raise ValueError("five")
        return 10 * job

    running = done_ahead(work, list(range(9)), ahead=3)
    assert [next(running) for _ in range(5)] == [0, 10, 20, 30, 40]
    with pytest.raises(ValueError, match="five"):
        next(running)
    assert list(done_ahead(work, [])) == []
