"""A training that is ended early gives what a shorter one would have given, and remembers it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.tiny_workbench import TinyWorkbench, request_of

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.training.session import train_stage

END, STEPS = 4, 9


class Impatient(TinyWorkbench):
    """Ends the training after some steps; counts those that are made."""

    def __init__(self, folder: Path, after: int | None = None) -> None:
        super().__init__(folder)
        self.steps, self._after = 0, after

    def callbacks(self, *_):
        return [self]

    def due(self, done):
        return False

    def __call__(self, loss, training):
        self.steps += 1

    def ends_early(self):
        return self.steps == self._after


def asked(steps=STEPS, **changes):
    request = request_of()
    return replace(request, config=request.config.with_(steps=steps), **changes)


def same(one, other):
    pairs = [(one.vectors, other.vectors), *((one.delta[n], other.delta[n]) for n in other.delta)]
    return one.delta.keys() == other.delta.keys() and all(torch.equal(*pair) for pair in pairs)


@pytest.fixture
def ended(host, tmp_path):
    """A stage of nine steps after four of them, its losses, and its place."""
    bench = Impatient(tmp_path / "ended", END)
    concept, losses = train_stage(bench, asked(keep_state=True))
    assert bench.steps == len(losses) == END and bench.said[-1].startswith(
        f"ended at step {END} in "
    )
    return concept, losses, bench.folder


def test_it_is_the_training_of_so_many_steps(ended, tmp_path):
    concept, losses, _ = ended
    shorter, its_losses = train_stage(TinyWorkbench(tmp_path / "shorter"), asked(END))
    assert same(concept, shorter) and losses == its_losses
    [stage] = concept.record["stages"]
    assert (stage["steps"], stage["after_steps"]) == (STEPS, END)


def test_asked_for_again_it_is_answered_and_says_so(ended):
    concept, losses, folder = ended
    again = Impatient(folder)
    found, its_losses = train_stage(again, asked(keep_state=True))
    assert same(found, concept) and its_losses == losses
    [run] = folder.iterdir()
    assert again.steps == again.models == 0
    assert again.said == [f"ended at step {END} in {run.name}"]


def test_more_steps_go_on_from_a_kept_state(ended, tmp_path):
    _, _, folder = ended
    bench = Impatient(folder)
    longer, _ = train_stage(bench, asked(STEPS + 3))
    assert bench.steps == STEPS + 3 - END
    whole, _ = train_stage(TinyWorkbench(tmp_path / "whole"), asked(STEPS + 3))
    assert same(longer, whole)


def test_without_its_folder_all_steps_are_trained(ended):
    _, _, folder = ended
    shutil.rmtree(folder)
    bench = Impatient(folder)
    train_stage(bench, asked())
    assert bench.steps == STEPS and f"ended at step {STEPS} in" in bench.said[-1]


def test_with_a_course_of_the_rate_it_is_the_long_trainings_moment(host, tmp_path):
    falling = OptimizerConfig(learning_rate=1e-3, schedule="linear")
    request = asked()
    request = replace(request, config=request.config.with_(optimizer=falling))
    concept, losses = train_stage(Impatient(tmp_path / "ended", END), request)
    _, all_losses = train_stage(TinyWorkbench(tmp_path / "whole"), request)
    assert losses == all_losses[:END] and concept.record["stages"][0]["after_steps"] == END
