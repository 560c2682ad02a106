"""Large checkpoints are written while the training goes on: the same files, nothing lost."""

from __future__ import annotations

import threading

import pytest
import torch
from support.resumed import same
from support.small_run import REQUEST, STEPS, full, train

from attndreambooth.attndb.training import background_write
from attndreambooth.attndb.training import run as run_module
from attndreambooth.attndb.training.background_write import BackgroundWrite, snapshot
from attndreambooth.attndb.training.run import Run

PLAIN_WRITE = run_module.write_whole


@pytest.fixture
def every_size(monkeypatch):
    """Even the tiny model's checkpoints are written beside the training."""
    monkeypatch.setattr(background_write, "LEAST", 0)


def test_a_snapshot_shares_nothing_and_small_or_too_large_states_have_none(monkeypatch):
    tensors = {"a": torch.arange(8.0)}
    assert snapshot(tensors) is None
    monkeypatch.setattr(background_write, "LEAST", 0)
    copied = snapshot(tensors)
    assert copied is not None
    tensors["a"].zero_()
    assert copied["a"].tolist() == [*range(8)]
    monkeypatch.setattr(background_write, "spare_memory", lambda: 63)  # half of it is 31 bytes
    assert snapshot(tensors) is None


def test_an_error_of_the_thread_is_raised_once_where_it_is_asked_for():
    def broken() -> None:
        raise OSError("made up")

    writing = BackgroundWrite()
    writing.start(broken)
    with pytest.raises(OSError, match="made up"):
        writing.wait()
    writing.wait()
    assert not writing.ended()


def test_the_training_goes_on_meanwhile_and_the_file_is_of_its_moment(
    tmp_path, monkeypatch, every_size
):
    """The write of step 2 is held up until step 5; another training stopped at step 2 leaves the
    same bytes."""
    held, seen = threading.Event(), []

    def slow(files):
        name = next(iter(files)).name
        if name == "checkpoint.safetensors" and threading.current_thread().name != "MainThread":
            assert held.wait(60)
        PLAIN_WRITE(files)

    monkeypatch.setattr(run_module, "write_whole", slow)

    def watch(loss, _training):
        seen.append(loss.step)
        if loss.step == 4:
            assert not (tmp_path / "checkpoint.safetensors").exists()
            held.set()
            run.wait()
            seen.append((tmp_path / "checkpoint.safetensors").read_bytes())

    with Run(tmp_path, REQUEST, every=2) as run:
        monkeypatch.setattr(run, "due", lambda done: done == 2)
        result = train(run, watch)
    assert seen[:5] == [0, 1, 2, 3, 4] and same(result, train(None))

    def stop(loss, _training):
        if loss.step == 1:
            raise KeyboardInterrupt

    other = tmp_path / "other"
    with Run(other, REQUEST, every=0) as run, pytest.raises(KeyboardInterrupt):
        train(run, stop)
    assert (other / "checkpoint.safetensors").read_bytes() == seen[5]


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path, every_size):
    def stop(loss, _training):
        if loss.step == 3:
            raise KeyboardInterrupt

    with Run(tmp_path, REQUEST, every=1) as run, pytest.raises(KeyboardInterrupt):
        train(run, stop)
    with Run(tmp_path, REQUEST, every=1) as run:
        assert same(train(run), train(None))


def test_a_full_disk_is_told_at_a_later_step_and_no_longer_when_there_is_space(
    tmp_path, monkeypatch, every_size
):
    told = []

    def watch(loss, _training):
        if run._writing._thread:
            run._writing._thread.join()
        told.append(run.trouble)
        if loss.step == 2:
            monkeypatch.setattr(run_module, "write_whole", PLAIN_WRITE)

    with Run(tmp_path, REQUEST, every=2) as run:
        monkeypatch.setattr(run_module, "write_whole", full)
        train(run, watch)
    assert "no checkpoint could be written" in told[2] and "kept only up to step 0" in told[2]
    assert told[:2] == ["", ""] and told[-1] == ""


def test_what_stops_a_training_waits_for_the_write_and_saves_the_last_moment(
    tmp_path, monkeypatch, every_size
):
    order = []

    def noted(files):
        names = [path.name for path in files]
        if "checkpoint.safetensors" in names:
            order.append(threading.current_thread().name)
        PLAIN_WRITE(files)

    monkeypatch.setattr(run_module, "write_whole", noted)

    def stop(loss, _training):
        if loss.step == 2:
            raise KeyboardInterrupt

    with Run(tmp_path, REQUEST, every=2) as run, pytest.raises(KeyboardInterrupt):
        train(run, stop)
    assert order == ["attndb checkpoint", "MainThread"]
    told = []
    with Run(tmp_path, REQUEST, every=0) as run:
        train(run, lambda loss, _: told.append(loss.step))
    assert told == [*range(3, STEPS)]


def test_whatever_goes_wrong_in_the_last_write_the_result_is_kept_and_the_folder_is_free(
    tmp_path, monkeypatch, every_size, caplog
):
    def broken(files):
        if threading.current_thread().name != "MainThread":
            raise MemoryError("made up")
        PLAIN_WRITE(files)

    monkeypatch.setattr(run_module, "write_whole", broken)
    with Run(tmp_path, REQUEST, every=1) as run:
        monkeypatch.setattr(run, "due", lambda done: done == STEPS - 1)
        monkeypatch.setattr(run._writing, "ended", lambda: False)  # it is still at it
        result = train(run)
        run.finish(result)
        assert "checkpoint.safetensors could not be written: made up" in caplog.text
        run._writing.start(lambda: broken({}))
    with Run(tmp_path, REQUEST) as run:
        kept = run.finished()
    assert kept is not None and same(kept, result)


def test_a_folder_is_free_though_the_wait_for_its_write_is_broken_off(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Run(tmp_path, REQUEST) as run:
        monkeypatch.setattr(run._writing, "wait", interrupted)
    with Run(tmp_path, REQUEST):
        pass
