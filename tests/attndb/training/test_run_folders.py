"""Run folders are bounded by the owner's setting; what may be wanted again stays."""

from __future__ import annotations

import os
import time

import pytest
from support.small_run import REQUEST, train

from attndreambooth.attndb.training.folder_lock import FolderLock
from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.run_folders import LIMIT_VARIABLE, remove_beyond, run_folders

DAY = 24 * 3600


def make(root, name, *, days, finished=True, size=1000):
    folder = root / name
    (folder / "previews").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    kind = "result" if finished else "checkpoint"
    (folder / f"{kind}.safetensors").write_bytes(b"x" * size)
    (folder / "previews" / "step-00001.png").write_bytes(b"png")
    for path in folder.iterdir():
        os.utime(path, (time.time() - days * DAY,) * 2)
    return folder


@pytest.fixture
def root(tmp_path):
    make(tmp_path, "dog-stage2-aaa", days=9)
    make(tmp_path, "dog-stage2-bbb", days=8)
    make(tmp_path, "dog-stage2-ccc", days=1)
    make(tmp_path, "dog-stage3-aaa", days=20)  # the only one of its concept's stage
    make(tmp_path, "cat-stage2-aaa", days=40, finished=False)
    make(tmp_path, "cat-stage2-bbb", days=10, finished=False)
    make(tmp_path, "cat-stage2-ccc", days=5, finished=False)
    (tmp_path / "not a run").mkdir()
    return tmp_path


def left(root):
    return {run.path.name for run in run_folders(root)}


def test_finished_ones_go_first_then_those_long_abandoned(root):
    everything = left(root)
    assert len(everything) == 7
    keep = root / "cat-stage2-ccc"
    assert remove_beyond(root, 7100, keep) == [] and left(root) == everything
    gone = []
    for limit in (6500, 5500, 4500, 3500, 0):
        gone += [run.path.name for run in remove_beyond(root, limit, keep)]
    assert gone == ["dog-stage2-aaa", "dog-stage2-bbb", "cat-stage2-aaa"]
    assert not (root / "dog-stage2-aaa").exists() and (root / "not a run").exists()


def test_a_folder_in_use_is_not_removed(root):
    held = FolderLock(root / "dog-stage2-aaa" / "lock")
    held.acquire()
    os.utime(root / "dog-stage2-aaa" / "lock", (0, 0))
    removed = remove_beyond(root, 0, root / "dog-stage2-ccc")
    held.release()
    assert "dog-stage2-aaa" not in [run.path.name for run in removed]
    assert (root / "dog-stage2-aaa" / "result.safetensors").exists()


def test_a_removal_that_was_killed_goes_on_with_the_next(root, monkeypatch):
    class KilledError(BaseException):
        pass

    def unlink(path, missing_ok=False):
        if path.name.endswith((".json", ".safetensors")):
            removed.append(path.name)
        if len(removed) == 2:
            raise KilledError
        os.unlink(path)

    removed = []
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr("pathlib.Path.unlink", unlink)
        remove_beyond(root, 0, root / "dog-stage2-ccc")
    assert removed == ["result.safetensors", "run.json"]
    assert "dog-stage2-aaa" in left(root), "it still counts"


@pytest.mark.parametrize(
    ("setting", "gone"), [("0.000002", True), ("1", False), ("", False), ("much", False)]
)
def test_a_finished_training_says_what_is_kept_and_bounds_it(
    root, monkeypatch, caplog, setting, gone
):
    monkeypatch.setenv(LIMIT_VARIABLE, setting)
    caplog.set_level("INFO")
    with Run(root / "dog-stage2-ddd", REQUEST) as run:
        run.finish(train(run))
    assert (root / "dog-stage2-ccc").exists() != gone
    assert run.outcome.exists() and f"kept in {run.folder}: {run.kept}" in caplog.text
    assert (f"{LIMIT_VARIABLE} removed 4 old ones" in run.kept) == gone
    assert ("use gigabytes" in caplog.text) == (setting == "much")


def test_a_folder_that_is_asked_for_again_counts_as_new(root):
    with Run(root / "dog-stage2-aaa", {}):
        pass
    assert run_folders(root)[-1].path.name == "dog-stage2-aaa"
