"""What no disk takes is held in memory until it is kept somewhere."""

from __future__ import annotations

import json

import pytest
import torch
from support.resumed import same
from support.small_run import REQUEST, VECTORS, full, train

from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.step_loss import StepLoss
from attndreambooth.attndb.training.training import StageResult
from attndreambooth.attndb.training.unkept_results import UNKEPT, UnkeptResults


def test_a_result_that_no_disk_takes_is_held_and_written_when_there_is_room(tmp_path, monkeypatch):
    made = train(None)
    with Run(tmp_path, REQUEST) as run:
        monkeypatch.setattr("attndreambooth.attndb.training.run.write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            run.finish(made)
        assert run.finished() is made, "still no room: it is held"
    monkeypatch.undo()
    with Run(tmp_path, REQUEST) as run:  # as the next queue finds it
        assert not run.outcome.exists()
        assert run.finished() is made
        assert run.outcome.exists() and UNKEPT.find(run.digest) is None
        again = run.finished()
    assert again is not None and again is not made and same(again, made)


def test_a_saved_concept_is_not_held_any_longer(tmp_path):
    made = train(None)
    other = StageResult(
        {"clip_l": VECTORS}, {}, (StepLoss(0, {"denoising": 9.0, "attention_map": 9.0}),)
    )
    UNKEPT.keep("other", other, tmp_path / "other")
    UNKEPT.keep("mine", made, tmp_path / "mine")
    assert UNKEPT.folders == [tmp_path / "other", tmp_path / "mine"]
    losses = json.loads(json.dumps([list(loss.shares.values()) for loss in made.losses]))
    UNKEPT.release_saved({"stages": [{"losses": [[9.0, 9.0]]}, {"losses": losses}]})
    assert UNKEPT.find("mine") is None and UNKEPT.find("other") is not None
    assert UNKEPT.folders == [tmp_path / "other"]
    UNKEPT.release("other")


def test_what_is_held_is_bounded_and_the_newest_stays(caplog, tmp_path):
    results = [
        StageResult({"clip_l": torch.zeros(1, size)}, {}, ()) for size in (100, 100, 100, 10**6)
    ]
    held = UnkeptResults(most=2, most_bytes=10**6)
    for number, result in enumerate(results):
        held.keep(str(number), result, tmp_path)
        assert held.find(str(number)) is result
    assert [held.find(str(number)) is None for number in range(4)] == [True, True, True, False]
    assert caplog.text.count("is given up for newer") == 3
