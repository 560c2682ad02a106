"""A training in one go, and the same one stopped and gone on with: both have to give the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attndreambooth.attndb.artifacts.weight_delta import delta_tensors
from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.training import StageResult
from support.observer import Told

Train = Callable[[Any, Run], StageResult]
"""A training with this callback and in this run."""


def same(one: StageResult, other: StageResult) -> bool:
    """Whether two trainings gave the same to the bit."""
    pairs = (
        (one.embeddings, other.embeddings),
        (delta_tensors(one.delta), delta_tensors(other.delta)),
        (one.modules, other.modules),
    )
    return one.losses == other.losses and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs
    )


def _stopping(step: int) -> Told:
    @Told
    def stop(loss, _training):
        if loss.step == step:
            raise KeyboardInterrupt

    return stop


def whole_and_resumed(folder: Path, train: Train) -> tuple[StageResult, StageResult]:
    """Of a training in one go, and of one that was stopped after three steps."""

    def run(name: str, callback: Any = None) -> StageResult:
        with Run(folder / name, {"of": "a test"}, every=2) as run:
            return train(callback, run)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", _stopping(2))
    return whole, run("stopped")


def files_of_both(folder: Path, train: Train) -> tuple[StageResult, list[list[bytes]]]:
    """The result, and log and result as files: of a training in one go, and of one that was stopped
    after two steps."""
    with Run(folder / "whole", {}) as run:
        run.finish(train(None, run))
    with Run(folder / "stopped", {}) as run:
        with pytest.raises(KeyboardInterrupt):
            train(_stopping(1), run)
        result = train(None, run)
        run.finish(result)
        finished = run.finished()
        assert finished and finished.losses == result.losses
    names = ("result.safetensors", "losses.jsonl")
    files = [[(folder / f / name).read_bytes() for name in names] for f in ("whole", "stopped")]
    return result, files
