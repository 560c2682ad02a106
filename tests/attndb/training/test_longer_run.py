"""A finished training goes on when steps is raised, and leaves concepts on its way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.tiny_workbench import TinyWorkbench, request_of

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.data.latent_pool import PoolSettings
from attndreambooth.attndb.training.earlier_run import STATE
from attndreambooth.attndb.training.session import train_stage


class Counting(TinyWorkbench):
    """Notes every step that is made, and the concepts that are kept."""

    def __init__(self, folder: Path, at_once: int = 1) -> None:
        super().__init__(folder)
        self.steps: list[int] = []
        self.concepts: dict[int, TrainedConcept] = {}
        self._at_once = at_once

    def callbacks(self, *_):
        return [self]

    def due(self, done):
        return False

    def __call__(self, loss, training):
        self.steps.append(loss.step)

    def pool(self, resolution):
        return PoolSettings(at_once=self._at_once)

    def keep_concept(self, concept, run, done, most):
        self.concepts[done] = concept


@pytest.fixture
def asked(host):
    request = request_of()
    return replace(request, keep_state=True)


def with_steps(request, steps, **changes):
    return replace(request, config=request.config.with_(steps=steps, **changes))


def folder_of(root: Path, steps: int) -> Path:
    [folder] = [p.parent for p in root.glob("*/run.json") if f'"steps": {steps}' in p.read_text()]
    return folder


def written(folder: Path) -> dict[str, bytes]:
    names = ("run.json", "losses.jsonl", "result.safetensors", STATE)
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9},
        {"lora_rank": 2},
        {"low_memory": True, "precision": "auto", "stage": 3},
        {"stage": 1},
        {"optimizer": OptimizerConfig(learning_rate=1e-3, warmup_steps=2)},
        {"method": "oft", "stage": 1},
    ],
    ids=str,
)
def test_more_steps_go_on_from_the_kept_state_to_the_bytes_of_one_long_run(
    tmp_path, asked, changes
):
    one, two = Counting(tmp_path / "one"), Counting(tmp_path / "two")
    for steps in (2, 3, 5):
        train_stage(one, with_steps(asked, steps, **changes))
    assert one.steps == [0, 1, 2, 3, 4]
    train_stage(two, with_steps(asked, 5, **changes))
    assert two.steps == [0, 1, 2, 3, 4]
    ours, theirs = folder_of(one.folder, 5), folder_of(two.folder, 5)
    assert ours.name == theirs.name and written(ours) == written(theirs)
    assert not list(one.folder.glob("*/checkpoint.safetensors"))


def test_without_the_switch_nothing_more_is_kept_and_more_steps_begin_anew(tmp_path, asked):
    request = replace(asked, keep_state=False)
    bench = Counting(tmp_path)
    train_stage(bench, with_steps(request, 2))
    assert not list(tmp_path.glob(f"*/{STATE}"))
    train_stage(bench, with_steps(request, 3))
    assert bench.steps == [0, 1, 0, 1, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"optimizer": OptimizerConfig(learning_rate=2e-3)},
        {"optimizer": OptimizerConfig(learning_rate=1e-3, schedule="cosine")},
        {"batch_size": 3},
    ],
    ids=str,
)
def test_another_training_is_not_gone_on_with(tmp_path, asked, changes):
    bench = Counting(tmp_path)
    train_stage(bench, with_steps(asked, 2))
    train_stage(bench, with_steps(asked, 3, **changes))
    assert bench.steps == [0, 1, 0, 1, 2]


def test_a_damaged_description_beside_it_is_passed_over(tmp_path, asked):
    bench = Counting(tmp_path)
    train_stage(bench, with_steps(asked, 2))
    [folder] = tmp_path.iterdir()
    beside = folder.with_name(f"{folder.name.rpartition('-')[0]}-damaged")
    beside.mkdir()
    for steps, text in enumerate(("[" * 100_000, '{"config": 1}'), 3):
        (beside / "run.json").write_text(text)
        _, losses = train_stage(bench, with_steps(asked, steps))
        assert len(losses) == steps


def test_a_rate_with_a_course_begins_anew_with_other_steps(tmp_path, asked):
    bench = Counting(tmp_path)
    linear = OptimizerConfig(learning_rate=1e-3, schedule="linear")
    for steps in (2, 3):
        train_stage(bench, with_steps(asked, steps, optimizer=linear))
    assert bench.steps == [0, 1, 0, 1, 2]


def test_a_damaged_state_costs_time_and_nothing_else(tmp_path, asked, caplog):
    bench = Counting(tmp_path)
    train_stage(bench, with_steps(asked, 2))
    [state] = tmp_path.glob(f"*/{STATE}")
    content = bytearray(state.read_bytes())
    content[-3] ^= 1
    state.write_bytes(content)
    train_stage(bench, with_steps(asked, 3))
    assert bench.steps == [0, 1, 0, 1, 2]
    assert "is not used, training from step 1" in caplog.text


def test_a_longer_training_encodes_more_of_its_pool_to_the_same_bytes(tmp_path, asked):
    """3 photos in calls of 2 crops: the pool is used up after the third step."""
    data = DataConfig(resolution=64, latent_pool=2)
    bench, plain = Counting(tmp_path / "a", at_once=2), Counting(tmp_path / "b", at_once=2)
    for steps in (1, 2, 4):
        found, _ = train_stage(bench, with_steps(asked, steps, data=data))
    assert bench.steps == [0, 1, 2, 3]
    assert found.digest() == train_stage(plain, with_steps(asked, 4, data=data))[0].digest()


def test_a_result_that_is_lost_comes_back_from_the_state_without_a_step(tmp_path, asked):
    bench = Counting(tmp_path)
    concept, losses = train_stage(bench, with_steps(asked, 2))
    [result] = tmp_path.glob("*/result.safetensors")
    result.unlink()
    again, same = train_stage(bench, with_steps(asked, 2))
    assert bench.steps == [0, 1, 1]  # told of the last step, for what is drawn at the end
    assert (again.digest(), same) == (concept.digest(), losses)


@pytest.mark.parametrize(
    "changes", [{}, {"ema_decay": 0.5}, {"stage": 1}, {"lora_rank": 2}], ids=str
)
def test_a_concept_on_the_way_is_that_of_a_training_of_so_many_steps(tmp_path, asked, changes):
    bench, plain = Counting(tmp_path / "a"), Counting(tmp_path / "b")
    request = replace(with_steps(asked, 5, **changes), keep_state=False)
    concept, _ = train_stage(bench, replace(request, concepts_every=2))
    undisturbed, _ = train_stage(plain, request)
    assert concept.digest() == undisturbed.digest(), "looking changed the training"
    assert list(bench.concepts) == [2, 4]
    for steps, kept in bench.concepts.items():
        whole, _ = train_stage(plain, with_steps(request, steps))
        assert kept.digest() == whole.digest()
        stage = kept.record["stages"][-1]
        assert stage["after_steps"] == steps and len(stage["losses"]) == steps
        assert stage["losses"] == whole.record["stages"][-1]["losses"]
    assert "after_steps" not in concept.record["stages"][-1]


class Cancelled(Counting):
    """Cancels the training once, where the second step is queued."""

    def due(self, done):
        if done == 2 and self.models == 1:
            raise KeyboardInterrupt
        return False


def test_a_concept_that_was_due_where_it_was_cancelled_is_kept_when_it_goes_on(tmp_path, asked):
    bench, plain = Cancelled(tmp_path / "a"), Counting(tmp_path / "b")
    request = replace(with_steps(asked, 5), keep_state=False, concepts_every=2)
    with pytest.raises(KeyboardInterrupt):
        train_stage(bench, request)
    train_stage(bench, request)
    train_stage(plain, request)
    assert list(bench.concepts) == [2, 4]
    for steps, kept in plain.concepts.items():
        assert bench.concepts[steps].digest() == kept.digest()
        assert bench.concepts[steps].record == kept.record


def test_a_full_disk_only_costs_the_concept_on_the_way(tmp_path, asked, caplog, monkeypatch):
    bench = Counting(tmp_path)

    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(bench, "keep_concept", full)
    concept, _ = train_stage(bench, replace(with_steps(asked, 3), concepts_every=1))
    assert concept.delta and "the concept of step 2 was not kept: no space" in caplog.text
    assert torch.isfinite(next(iter(concept.delta.values()))).all()
