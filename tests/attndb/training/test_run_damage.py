"""A run folder whose files are not what was written: named, set aside, never trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.resumed import same
from support.small_run import REQUEST, STEPS, lines, train

from attndreambooth.attndb.artifacts.checked_file import checked_writer
from attndreambooth.attndb.artifacts.tensor_file import read_tensors, write_whole
from attndreambooth.attndb.training.run import Run


def stopped(folder: Path, at=3) -> Path:
    """A training that was cancelled after some steps; its checkpoint."""

    def cancel(loss, _training):
        if loss.step == at:
            raise KeyboardInterrupt

    with Run(folder, REQUEST) as run, pytest.raises(KeyboardInterrupt):
        train(run, cancel)
    return run.checkpoint


def flip(path: Path, place: float) -> None:
    """One bit of a file becomes another."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def zero_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


DAMAGE = {
    "a flipped bit": lambda path: flip(path, 0.7),
    "a flipped bit in the header": lambda path: flip(path, 0.02),
    "a flipped first bit": lambda path: flip(path, 0.0),
    "a flipped last bit": lambda path: flip(path, 1.0),
    "a zeroed half": zero_half,
    "a lost end": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "an empty file": lambda path: path.write_bytes(b""),
    "something else": lambda path: path.write_bytes(b"GIF89a" * 99),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_stage_starts_afresh(tmp_path, caplog, kind):
    DAMAGE[kind](stopped(tmp_path))
    content = (tmp_path / "checkpoint.safetensors").read_bytes()
    with Run(tmp_path, REQUEST) as run:
        result = train(run)
        assert "checkpoint was damaged" in run.trouble
    assert same(result, train(None)) and lines(tmp_path) == [*range(STEPS)]
    assert f"{run.checkpoint} is damaged: " in caplog.text
    assert (tmp_path / "damaged-checkpoint.safetensors").read_bytes() == content


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_result_is_set_aside_and_trained_again(tmp_path, caplog, kind):
    with Run(tmp_path, REQUEST) as run:
        run.finish(train(run))
        content = run.outcome.read_bytes()
        DAMAGE[kind](run.outcome)
        assert run.finished() is None
        assert f"{run.outcome} is damaged: " in caplog.text
        assert (tmp_path / "damaged-result.safetensors").exists()
        run.finish(train(run))
        assert run.outcome.read_bytes() == content


def rewritten(path: Path, change) -> None:
    """The file with other content under a checksum that is right."""
    tensors, metadata = read_tensors(path)
    metadata = {key: text for key, text in metadata.items() if key != "attndb.checksum"}
    change(tensors, metadata)
    write_whole({path: checked_writer(tensors, metadata)})


def first(tensors, kind="trained."):
    return min(name for name in tensors if name.startswith(kind))


WRONG = {
    "holds values that are not finite": lambda t, m: t[first(t)].view(-1)[0].fill_(torch.nan),
    "holds values that are not finite ": lambda t, m: t[first(t, "optimizer.0.exp")].fill_(
        torch.inf
    ),
    "it lacks trained": lambda t, m: t.pop(first(t)),
    "and the training's is": lambda t, m: t.update({first(t): t[first(t)].half()}),
    "and the training's is ": lambda t, m: t.update({first(t): t[first(t)][None]}),
    "in it is (3,)": lambda t, m: t.update({"optimizer.0.exp_avg": torch.zeros(3)}),
    "belongs to no weight": lambda t, m: t.update({"optimizer.999.step": torch.zeros(())}),
    "it holds no list of 4 losses": lambda t, m: m.update(losses=json.dumps([[0.5, 0.0]] * 2)),
    "it holds no list of losses": lambda t, m: m.update(losses='{"0": 1}'),
    "a loss in it is not a finite": lambda t, m: m.update(losses=json.dumps([[0.5, None]] * 4)),
    "a loss in it is not a finite ": lambda t, m: m.update(losses="[[NaN, 1],[1,1],[1,1],[1,1]]"),
    "a loss in it has too few or": lambda t, m: m.update(losses="[[1],[],[1],[1]]"),
    "it belongs to another training": lambda t, m: m.update({"attndb.request": "00"}),
    "settings": lambda t, m: m.update(optimizer="[" * 100_000),
    "settings ": lambda t, m: m.update(optimizer="[]"),
}


@pytest.mark.parametrize("told", WRONG)
def test_a_checkpoint_that_does_not_fit_is_not_trained_on(tmp_path, caplog, told):
    rewritten(stopped(tmp_path), WRONG[told])
    with Run(tmp_path, REQUEST) as run:
        assert same(train(run), train(None))
    assert told.strip() in caplog.text
    assert (tmp_path / "damaged-checkpoint.safetensors").exists()


@pytest.mark.parametrize("plain", ["{}", '{"state": 3, "param_groups": []}'])
def test_a_checkpoint_that_the_training_refuses_half_way_is_an_error_and_gone(tmp_path, plain):
    """Weights may be in the model already: nothing is trained from there."""
    rewritten(stopped(tmp_path), lambda t, m: m.update(optimizer=plain))
    with Run(tmp_path, REQUEST) as run, pytest.raises(ValueError, match=r"queue again, and this"):
        train(run)
    with Run(tmp_path, REQUEST) as run:
        assert same(train(run), train(None))


def test_a_result_of_another_request_is_not_taken(tmp_path, caplog):
    with Run(tmp_path / "2", {"stage": 2}) as run:
        run.finish(train(run))
    with Run(tmp_path / "3", {"stage": 3}) as run:
        shutil.copy(tmp_path / "2" / "result.safetensors", run.outcome)
        assert run.finished() is None
    assert "it belongs to another training" in caplog.text


def test_a_known_result_is_not_hashed_again(tmp_path, monkeypatch):
    with Run(tmp_path, REQUEST) as run:
        made = train(run)
        run.finish(made)
        hashed = "attndreambooth.attndb.training.run_files.check_content"
        monkeypatch.setattr(hashed, lambda path: pytest.fail("read a second time"))
        found = run.finished()
    assert found is not None and same(found, made)
