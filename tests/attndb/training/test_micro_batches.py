"""A run goes on with another micro-batch, and its record says from which step on it had which."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from support.tiny_workbench import TinyWorkbench, request_of

from attndreambooth.attndb.training.micro_batches import micro_batches_from_json
from attndreambooth.attndb.training.session import train_stage

STEPS = 4


class Stopped(Exception):
    pass


class StopsAfter:
    def __init__(self, steps):
        self.steps = steps

    def due(self, done):
        return False

    def __call__(self, loss, training):
        if loss.step + 1 == self.steps:
            raise Stopped


class Stopping(TinyWorkbench):
    """Trains to a step and stops there, as Cancel does."""

    def __init__(self, folder, steps):
        super().__init__(folder)
        self.steps = steps

    def callbacks(self, *_):
        return [StopsAfter(self.steps)]


class Cramped(TinyWorkbench):
    """Runs out of memory when more than one sample comes, after some forward passes."""

    def __init__(self, folder, passes):
        super().__init__(folder)
        self.passes = passes

    @contextmanager
    def private_model(self, dataset, concept):
        with super().private_model(dataset, concept) as model:
            plain = model.unet.forward

            def forward(latents, *args, **kwargs):
                self.passes -= 1
                if self.passes < 0 and len(latents) > 1:
                    raise torch.cuda.OutOfMemoryError("no memory")
                return plain(latents, *args, **kwargs)

            model.unet.forward = forward
            yield model


@pytest.fixture
def asked(host):
    request = request_of()
    return replace(request, config=request.config.with_(steps=STEPS))


def with_(request, **changes):
    return replace(request, config=request.config.with_(**changes))


def stage_of(concept):
    return concept.record["stages"][-1]


@pytest.mark.parametrize("micro_batch", [0, 1, 2, 5])
def test_of_an_undisturbed_run_the_record_says_no_more_than_it_did(tmp_path, asked, micro_batch):
    concept, _ = train_stage(TinyWorkbench(tmp_path), with_(asked, micro_batch=micro_batch))
    assert "micro_batches" not in stage_of(concept)
    assert stage_of(concept)["micro_batch"] == micro_batch


def test_a_run_that_is_gone_on_with_says_from_which_step_on_it_had_which(tmp_path, asked):
    with pytest.raises(Stopped):
        train_stage(Stopping(tmp_path, 1), asked)
    with pytest.raises(Stopped):
        train_stage(Stopping(tmp_path, 3), with_(asked, micro_batch=1))
    concept, losses = train_stage(TinyWorkbench(tmp_path), asked)
    assert stage_of(concept)["micro_batches"] == [
        {"from_step": 1, "samples": 2},
        {"from_step": 2, "samples": 1},
        {"from_step": 4, "samples": 2},
    ]
    [folder] = tmp_path.iterdir()
    assert folder.is_dir() and len(losses) == STEPS
    _, expected = train_stage(TinyWorkbench(tmp_path / "whole"), asked)
    totals = [loss.total for loss in losses]
    assert totals == pytest.approx([loss.total for loss in expected], rel=1e-4)


def test_gone_on_with_as_it_began_it_says_nothing(tmp_path, asked):
    with pytest.raises(Stopped):
        train_stage(Stopping(tmp_path, 2), with_(asked, micro_batch=1))
    concept, _ = train_stage(TinyWorkbench(tmp_path), with_(asked, micro_batch=1))
    plain, _ = train_stage(TinyWorkbench(tmp_path / "plain"), with_(asked, micro_batch=1))
    assert concept.record == plain.record and concept.digest() == plain.digest()


@pytest.mark.parametrize("torch_2_4", [False, True])
def test_a_micro_batch_that_was_halved_on_the_way_is_recorded(
    tmp_path, asked, monkeypatch, torch_2_4
):
    """PyTorch 2.4, which the oldest host takes, has the error in torch.cuda alone."""
    if torch_2_4:
        monkeypatch.delattr(torch, "OutOfMemoryError")
    concept, _ = train_stage(Cramped(tmp_path, 2), asked)
    assert stage_of(concept)["micro_batches"][0] == {"from_step": 1, "samples": 2}
    [later] = stage_of(concept)["micro_batches"][1:]
    assert later["samples"] == 1 and later["from_step"] > 1


def test_a_finished_run_that_is_asked_for_with_another_one_says_what_it_was_made_with(
    tmp_path, asked
):
    train_stage(TinyWorkbench(tmp_path), asked)
    bench = TinyWorkbench(tmp_path)
    again, _ = train_stage(bench, with_(asked, micro_batch=1))
    assert bench.models == 0
    assert stage_of(again)["micro_batches"] == [{"from_step": 1, "samples": 2}]
    same, _ = train_stage(bench, asked)
    assert "micro_batches" not in stage_of(same)


def test_a_kept_state_carries_it_into_the_longer_run(tmp_path, asked):
    kept = replace(asked, keep_state=True)
    train_stage(TinyWorkbench(tmp_path), with_(kept, steps=2, micro_batch=1))
    concept, _ = train_stage(TinyWorkbench(tmp_path), kept)
    assert stage_of(concept)["micro_batches"] == [
        {"from_step": 1, "samples": 1},
        {"from_step": 3, "samples": 2},
    ]


@pytest.mark.parametrize("text", ["{", "5", '[["a", 1]]', "[[1]]", "null"])
def test_what_is_no_list_of_them_is_the_files_fault(text):
    with pytest.raises(ValueError, match="micro-batches cannot be read"):
        micro_batches_from_json(text)
