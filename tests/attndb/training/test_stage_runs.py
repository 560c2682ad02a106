"""StageRuns: which run a stage is, alone and among several processes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.training.folder_lock import FolderLockedError
from attndreambooth.attndb.training.stage_runs import StageRuns
from attndreambooth.attndb.training.step_loss import StepLoss
from attndreambooth.attndb.training.training import StageResult

MILD = PRESETS["micro"]()[2]
CHOICES = [MILD, MILD.with_(low_memory=True)]
RESULT = StageResult(
    {"clip_l": torch.arange(6.0).reshape(1, 6)},
    losses=(StepLoss(0, {"denoising": 0.5}),),
    facts={"a": 1.0},
    micro_batches=((0, 2),),
)


class Wire:
    """What the first of two processes says, and the second hears."""

    tensors, plain, least = None, None, 0

    def ranks(self, rank: int) -> SimpleNamespace:
        def of_first(state):
            if rank == 0:
                self.tensors, self.plain = state[0], json.dumps(state[1])
            return self.tensors, json.loads(self.plain)

        return SimpleNamespace(
            many=True,
            first=rank == 0,
            check_same=lambda asked: None,
            of_first=of_first,
            largest=lambda number: max(number, self.least),
        )


def stage(folder: Path, ranks: SimpleNamespace) -> SimpleNamespace:
    dataset = SimpleNamespace(placeholder="<dog>")
    request = SimpleNamespace(choices=CHOICES, config=MILD, dataset=dataset, title="stage 3")
    request.checkpoint_every, request.keep_state = 0, False
    bench = SimpleNamespace(ranks=ranks, run_folder=lambda name: folder / name)
    return SimpleNamespace(bench=bench, request=request)


def alone(folder: Path) -> StageRuns:
    ranks = SimpleNamespace(**vars(Wire().ranks(0)))
    ranks.many = False
    return StageRuns(stage(folder, ranks), {"prompt": "a"})


def finish(folder: Path) -> None:
    """The training in less memory was finished before."""
    with alone(folder) as runs:
        assert runs.finished() is None and runs.choices == CHOICES
        assert runs.take(CHOICES[1]) == CHOICES[1] == runs.config
        runs.run.finish(RESULT)


def same(result: StageResult | None) -> bool:
    return (
        result is not None
        and torch.equal(result.vectors, RESULT.vectors)
        and result.losses == RESULT.losses
        and result.facts == RESULT.facts
    )


def test_a_stage_is_the_run_that_was_begun_whatever_would_fit_now(tmp_path):
    finish(tmp_path)
    with alone(tmp_path) as runs:
        assert runs.choices == [CHOICES[1]] and same(runs.finished())


def test_its_run_is_held_as_soon_as_it_is_known(tmp_path):
    with alone(tmp_path) as first, alone(tmp_path) as second:
        first.take(MILD)
        with pytest.raises(FolderLockedError):
            second.take(MILD)
    with alone(tmp_path) as third:
        third.take(MILD)


def test_other_processes_have_the_firsts_choice_and_result_and_read_nothing(tmp_path):
    wire = Wire()
    finish(tmp_path / "first")
    with (
        StageRuns(stage(tmp_path / "first", wire.ranks(0)), {"prompt": "a"}) as first,
        StageRuns(stage(tmp_path / "other", wire.ranks(1)), {"prompt": "a"}) as other,
    ):
        assert same(first.finished()) and same(other.finished())
        assert other.config == first.config == CHOICES[1]
    assert not (tmp_path / "other").exists()


def test_all_take_what_fits_the_process_with_the_least_memory(tmp_path):
    wire = Wire()
    wire.least = 1
    with (
        StageRuns(stage(tmp_path / "first", wire.ranks(0)), {"prompt": "a"}) as first,
        StageRuns(stage(tmp_path / "other", wire.ranks(1)), {"prompt": "a"}) as other,
    ):
        assert first.finished() is None and other.finished() is None
        assert first.take(MILD) == other.take(CHOICES[1]) == CHOICES[1]
        assert first.run.folder.is_dir() and not other.run.folder.exists()
