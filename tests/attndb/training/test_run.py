"""The run folder: what a killed or cramped training leaves in it, and what the next one finds."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from support.resumed import same
from support.small_run import REQUEST, STEPS, VECTORS, full, lines, train

from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.step_loss import StepLoss
from attndreambooth.attndb.training.training import StageResult


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    names = ("", "previews/", "attention/")
    left = [tmp_path / f"{name}.checkpoint.safetensors.00ffaa-123-4.part" for name in names]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (tmp_path / "checkpoint.safetensors").write_bytes(b"whole")
    with Run(tmp_path, REQUEST):
        assert not any(path.exists() for path in left)
        assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"whole"


def test_a_description_that_says_the_same_is_not_written_again(tmp_path, monkeypatch):
    with Run(tmp_path, REQUEST):
        pass
    monkeypatch.setattr("attndreambooth.attndb.training.run.write_whole", full)
    with Run(tmp_path, REQUEST):
        pass
    with pytest.raises(OSError, match="No space left"), Run(tmp_path, {"seed": 2}):
        pass
    monkeypatch.undo()
    with Run(tmp_path, {"seed": 2}):  # the failure gave the lock back
        assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 2}


def test_a_folder_that_cannot_be_made_is_named_with_a_remedy(tmp_path):
    (tmp_path / "output").write_text("a file where the folder should be")
    with (
        pytest.raises(
            OSError, match=r"run\.json could not be written.*Free space or allow"
        ) as error,
        Run(tmp_path / "output" / "run", REQUEST),
    ):
        pass
    assert error.value.filename == str(tmp_path / "output" / "run")


def test_a_full_disk_leaves_no_half_line_and_later_all_lines(tmp_path, monkeypatch, caplog):
    """The log's disk is full at steps 3 and 4: half a line is written, then the write fails."""
    plain = Path.open

    def limited(path, mode="r", *args, **kwargs):
        handle = plain(path, mode, *args, **kwargs)
        if path.name == "losses.jsonl" and mode == "a" and full_now:
            handle.write('{"step": 99, "lo')
            handle.close()
            full()
        return handle

    full_now = []
    monkeypatch.setattr(Path, "open", limited)
    seen = {}

    def observer(loss, _training):
        seen[loss.step] = lines(tmp_path)
        if loss.step in (1, 3):
            full_now.clear() if full_now else full_now.append(True)
            broken = full if full_now else plain_write
            monkeypatch.setattr("attndreambooth.attndb.training.loss_log.write_whole", broken)

    from attndreambooth.attndb.artifacts.tensor_file import write_whole as plain_write

    with caplog.at_level(logging.WARNING), Run(tmp_path, REQUEST, every=0) as run:
        train(run, observer)
    assert seen == {0: [0], 1: [0, 1], 2: [0, 1], 3: [0, 1], 4: [0, 1, 2, 3, 4], 5: [*range(6)]}
    assert caplog.text.count("losses are not written") == 1


def test_trouble_is_told_while_it_lasts(tmp_path, monkeypatch):
    from attndreambooth.attndb.artifacts.tensor_file import write_whole as plain

    told = {}
    with Run(tmp_path, REQUEST, every=2) as run:

        def observer(loss, _training):
            told[loss.step + 1] = run.trouble
            if loss.step + 1 in (1, 3):
                broken = loss.step + 1 == 1
                monkeypatch.setattr(
                    "attndreambooth.attndb.training.run.write_whole", full if broken else plain
                )

        train(run, observer)
    assert [step for step, text in told.items() if text] == [2, 3]
    assert "kept only up to step 0" in told[2] and str(tmp_path) in told[2]


Usage = namedtuple("Usage", "total used free")


def test_a_disk_too_small_for_checkpoints_is_told_before_the_first_step(
    tmp_path, monkeypatch, caplog
):
    for free, warned in ((10**12, False), (1000, True)):
        caplog.clear()
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(0, 0, free))
        with Run(tmp_path / str(free), REQUEST) as run:
            train(run)
        assert ("this stage wants about" in caplog.text) == warned
        assert ("1.0 kB free" in caplog.text) == warned


@pytest.mark.parametrize(
    ("why", "free", "size", "kept"),
    [
        ("ENOSPC", 10**9, 1000, True),
        ("ENOSPC", 0, 1000, False),
        ("EDQUOT", 0, 2 * 10**6, True),
        ("EDQUOT", 10**9, 1000, False),  # what is free is not this user's
        ("EIO", 10**9, 2 * 10**6, False),
    ],
)
def test_the_checkpoint_gives_way_only_to_a_result_that_will_fit(
    tmp_path, monkeypatch, why, free, size, kept
):
    from attndreambooth.attndb.artifacts.tensor_file import write_whole as plain

    (tmp_path / "checkpoint.safetensors").write_bytes(b"5" * size)
    calls = []

    def first_fails(files):
        calls.append(files)
        if len(calls) == 1:
            raise OSError(getattr(errno, why), "not written")
        plain(files)

    with Run(tmp_path, REQUEST) as run:
        monkeypatch.setattr("attndreambooth.attndb.training.run.write_whole", first_fails)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
        result = StageResult(
            {"clip_l": VECTORS}, {}, (StepLoss(0, {"denoising": 0.5, "attention_map": 0.25}),)
        )
        if kept:
            run.finish(result)
        else:
            with pytest.raises(OSError, match="not written"):
                run.finish(result)
    assert (tmp_path / "result.safetensors").exists() == kept
    assert (tmp_path / "checkpoint.safetensors").exists() != kept


# ---- what is not written


def test_no_checkpoint_is_written_after_the_last_step(tmp_path, monkeypatch):
    from attndreambooth.attndb.artifacts.tensor_file import write_whole as plain

    written = []

    def note(files):
        written.extend(path.name for path in files)
        plain(files)

    monkeypatch.setattr("attndreambooth.attndb.training.run.write_whole", note)
    with Run(tmp_path, REQUEST, every=2) as run:
        run.finish(train(run))
    assert written == ["run.json", *["checkpoint.safetensors"] * 2, "result.safetensors"]
    assert not run.checkpoint.exists() and run.finished() is not None


def test_a_training_cancelled_after_its_last_step_is_kept(tmp_path):
    def cancel(loss, _training):
        if loss.step == STEPS - 1:
            raise KeyboardInterrupt

    with Run(tmp_path, REQUEST, every=2) as run, pytest.raises(KeyboardInterrupt):
        train(run, cancel)
    told = []
    with Run(tmp_path, REQUEST, every=2) as run:
        resumed = train(run, lambda loss, _: told.append(loss.step))
    assert told == [STEPS - 1], "no step is done again; what is drawn at the end is"
    assert same(resumed, train(None))


@pytest.mark.parametrize("keep_state", [False, True])
def test_one_that_was_killed_between_result_and_checkpoint_is_put_in_order(tmp_path, keep_state):
    def cancel(loss, _training):
        if loss.step == STEPS - 1:
            raise KeyboardInterrupt

    with Run(tmp_path, REQUEST) as run, pytest.raises(KeyboardInterrupt):
        train(run, cancel)
    with Run(tmp_path, REQUEST) as run:
        made = train(run)
        run._write_result(made)  # and killed
        assert run.checkpoint.exists()
    with Run(tmp_path, REQUEST, keep_state=keep_state) as run:
        found = run.finished()
    assert found is not None and same(found, made)
    assert not run.checkpoint.exists() and (tmp_path / "state.safetensors").exists() == keep_state


def test_a_result_that_may_not_be_read_is_not_trained_again(tmp_path, monkeypatch):
    with Run(tmp_path, REQUEST) as run:
        run.finish(train(run))

        def refused(*_):
            raise PermissionError(errno.EACCES, "not allowed")

        monkeypatch.setattr("attndreambooth.attndb.training.run.read_result", refused)
        with pytest.raises(ValueError, match=r"result .*cannot be read .*allow reading it, or del"):
            run.finished()


def test_the_log_never_holds_more_lines_than_the_training_has_steps(tmp_path):
    """Killed before its first checkpoint, a training starts afresh: so does its log."""
    (tmp_path / "losses.jsonl").write_text('{"step": 0}\n' * 7)
    seen = []
    with Run(tmp_path, REQUEST, every=0) as run:
        train(run, lambda loss, _: seen.append(lines(tmp_path)))
    assert seen == [[*range(done + 1)] for done in range(STEPS)]


def test_an_unfinished_training_of_another_version_is_told_of_and_not_gone_on_with(
    tmp_path, caplog
):
    def begun(name, **request):
        with Run(tmp_path / name, request) as run:
            run.checkpoint.write_bytes(b"3 steps")

    begun("dog-stage2-1", seed=1, versions={"comfyui": "0.30.0", "torch": "2.11"})
    begun("dog-stage2-2", seed=2, versions={"comfyui": "0.30.0", "torch": "2.11"})
    begun("dog-stage2-3", seed=3, versions={"comfyui": "0.31.0"})
    with Run(tmp_path / "dog-stage2-4", {"seed": 1, "versions": {"comfyui": "0.31.0"}}) as run:
        train(run)
    told = caplog.text.count("which may compute otherwise. To go on there, stop and start those")
    assert told == 1 and run.trouble.startswith("starts from step 1: the unfinished training in ")
    assert "dog-stage2-1 was begun with comfyui 0.30.0, torch 2.11, and this is comfyui 0.31.0" in (
        run.trouble
    )


@pytest.mark.parametrize(
    ("code", "pool", "told"),
    [
        ({"code_version": 1}, 128, True),  # of before crops were drawn in rounds
        ({"code_version": 1, "pool_version": 1}, 256, True),
        ({"code_version": 0, "pool_version": 2}, 256, True),
        ({"code_version": 1}, 0, False),  # another training: without a pool
        ({"code_version": 1, "pool_version": 2}, 128, False),  # another pool
    ],
)
def test_an_unfinished_training_of_an_older_pack_is_told_of(tmp_path, code, pool, told):
    def request(crops, **versions):
        return {"seed": 1, "config": {"steps": 3, "data": {"latent_pool": crops}}, **versions}

    with Run(tmp_path / "dog-stage2-1", request(pool, **code)) as old:
        old.checkpoint.write_bytes(b"3 steps")
    asked = request(256, code_version=1, pool_version=2)
    with Run(tmp_path / "dog-stage2-2", asked) as run:
        train(run)
    said = "dog-stage2-1 was begun with another version of AttnDreamBooth"
    assert (said in run.trouble) == told
    assert told or not run.trouble
