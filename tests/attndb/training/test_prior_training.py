"""Training with prior samples: exact in parts, kept in files, the same in low memory."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from support.bytes_held import held_by
from support.gradients import at_step
from support.prior import CLASS, VECTORS, Batches, batch_of, gradient_of, stage

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.attention import tap
from attndreambooth.attndb.training.callback import NoCallback
from attndreambooth.attndb.training.loss_table import LossTable
from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.step_loss import StepLoss, TrainingDivergedError
from attndreambooth.attndb.viz.loss_curve import loss_curve
from attndreambooth.devkit.tiny_model import prompt_of, tiny_model
from attndreambooth.devkit.training import train_stage, training_of


@pytest.mark.parametrize("number", [2, 3])
def test_the_other_parts_of_the_loss_do_not_know_of_prior_samples(number):
    _, alone = gradient_of(number, batch_of(prior=0))
    _, with_prior = gradient_of(number, batch_of())
    assert "prior" not in alone.shares and with_prior.shares["prior"] > 0.0
    assert with_prior.shares["attention_map"] == alone.shares["attention_map"] > 0.0
    assert with_prior.shares["denoising"] == alone.shares["denoising"]


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("micro", [1, 2, 3])
@pytest.mark.parametrize("checkpointing", ["off", "light", "full"])
def test_micro_batches_add_up_to_the_whole(number, micro, checkpointing):
    batch = batch_of(size=6, prior=5)
    whole, loss = gradient_of(number, batch)
    parts, loss_of_parts = gradient_of(
        number, batch, micro_batch=micro, gradient_checkpointing=checkpointing
    )
    a, b = (torch.cat([g.flatten() for g in gs.values()]).double() for gs in (whole, parts))
    assert float((a - b).norm() / a.norm()) < 1e-5
    assert list(loss.shares) == ["denoising", "attention_map", "prior"]
    assert dict(loss_of_parts.shares) == pytest.approx(dict(loss.shares), rel=1e-5)


def test_a_micro_batch_is_no_larger_than_asked_for():
    backend, sizes = tiny_model(), []
    plain = backend.denoise
    backend.denoise = lambda z, t, c: sizes.append(len(z)) or plain(z, t, c)
    with training_of(backend, stage(2, micro_batch=2), VECTORS) as training:
        training.step(0, batch_of(size=4, prior=3))
    assert sizes == [2, 2, 2, 1]


@pytest.mark.parametrize("checkpointing", ["off", "light", "full"])
def test_no_attention_is_watched_while_prior_samples_are_computed(monkeypatch, checkpointing):
    watched = []
    plain = tap.column_statistics

    def counted(q, *args):
        watched.append(len(q))
        return plain(q, *args)

    monkeypatch.setattr(tap, "column_statistics", counted)
    config = stage(2, micro_batch=2, gradient_checkpointing=checkpointing)
    with training_of(tiny_model(), config, VECTORS) as training:
        training.step(0, batch_of(size=4, prior=0))
        alone = len(watched)
        watched.clear()
        training.step(1, batch_of(size=4, prior=3))
    assert len(watched) == alone > 0 and set(watched) == {2}


def test_the_class_prompt_is_encoded_once():
    backend = tiny_model()
    plain, calls = backend.encode_text, []
    backend.encode_text = lambda p, v: calls.append(p) or plain(p, v)
    train_stage(backend, Batches(), stage(3), VECTORS)
    assert sorted(calls, key=str) == sorted([prompt_of(), CLASS], key=str)


def test_stage_1_has_no_use_for_prior_samples():
    with (
        training_of(tiny_model(), stage(1), VECTORS) as training,
        pytest.raises(AssertionError, match="no gradient in the embedding"),
    ):
        training.step(0, batch_of())


# ---- the run folder


class Stopped(Exception):
    """Raised by a test's observer."""


class Stopping(NoCallback):
    """Stops a training after its second step."""

    def __call__(self, loss, training):
        if loss.step == 1:
            raise Stopped


@pytest.mark.parametrize("number", [2, 3])
def test_a_resumed_run_with_prior_samples_is_the_uninterrupted_one(tmp_path, number):
    config = stage(number, steps=4)
    with Run(tmp_path / "whole", {}) as run:
        run.finish(train_stage(tiny_model(), Batches(), config, VECTORS, run=run))
    with Run(tmp_path / "broken", {}) as run:
        with pytest.raises(Stopped):
            train_stage(tiny_model(), Batches(), config, VECTORS, Stopping(), run)
        result = train_stage(tiny_model(), Batches(), config, VECTORS, run=run)
        run.finish(result)
        again = run.finished()
    for name in ("result.safetensors", "losses.jsonl"):
        whole, broken = ((tmp_path / f / name).read_bytes() for f in ("whole", "broken"))
        assert whole == broken
    assert again.losses == result.losses and all(loss.shares["prior"] > 0 for loss in again.losses)
    lines = (tmp_path / "broken" / "losses.jsonl").read_text().splitlines()
    for line, loss in zip(map(json.loads, lines), result.losses, strict=True):
        assert line["prior"] == loss.shares["prior"] and line["loss"] == loss.total


def test_without_prior_samples_files_are_as_they_were(tmp_path):
    with Run(tmp_path, {}) as run:
        result = train_stage(tiny_model(), Batches(prior=0), stage(2), VECTORS, run=run)
        run.finish(result)
        lines = (tmp_path / "losses.jsonl").read_text().splitlines()
        assert set(json.loads(lines[0])) == {"step", "loss", "denoising", "attention_map"}
        assert all(list(loss.shares) == ["denoising", "attention_map"] for loss in result.losses)
        assert run.finished().losses == result.losses


# ---- told


def test_a_nan_of_the_prior_is_named_and_not_learned():
    backend = tiny_model()
    before = {name: p.detach().clone() for name, p in backend.unet.named_parameters()}
    batch = batch_of()
    batch.prior.latents[0, 0, 0, 0] = math.nan
    with (
        training_of(backend, stage(3), VECTORS) as training,
        pytest.raises(TrainingDivergedError, match="step 5: the prior preservation loss is nan"),
    ):
        training.step(4, batch)
    assert all(torch.equal(p, before[name]) for name, p in backend.unet.named_parameters())


def test_the_parts_of_a_loss_add_up():
    assert StepLoss(0, {"denoising": 0.5}).total == 0.5
    whole = StepLoss(0, {"denoising": 0.5, "attention_map": 0.25, "prior": 0.125})
    assert whole.total == 0.875
    whole.check_finite()


def test_the_loss_curve_has_a_panel_for_the_prior_where_there_is_one():
    losses = [StepLoss(step, {"denoising": 0.5, "attention_map": 0.1}) for step in range(3)]
    with_prior = [StepLoss(loss.step, {**loss.shares, "prior": 0.3}) for loss in losses]
    plain, three = (loss_curve(LossTable.of(all_).curves, "title") for all_ in (losses, with_prior))
    assert three.size == plain.size
    green = (120, 210, 130)
    colours = [{c for _, c in picture.getcolors(1 << 24)} for picture in (plain, three)]
    assert green not in colours[0] and green in colours[1]


# ---- low memory: the update inside the backward pass


def low(**changes):
    return stage(3, low_memory=True, precision="bf16", **changes)


@pytest.mark.parametrize("micro", [0, 2, 3])
def test_low_memory_updates_once_and_after_the_prior_samples(monkeypatch, micro):
    with training_of(tiny_model(), low(micro_batch=micro), VECTORS) as training:
        before = [p.detach().clone() for p in training.trainable]
        seen = []
        plain = training.learner.denoising.loss

        def watched(*args):
            pairs = zip(before, training.trainable, strict=True)
            seen.append(all(torch.equal(a, b) for a, b in pairs))
            return plain(*args)

        monkeypatch.setattr(training.learner.denoising, "loss", watched)
        training.step(0, batch_of())
        assert seen and all(seen)
        assert not all(torch.equal(a, b) for a, b in zip(before, training.trainable, strict=True))
        assert {state["step"] for state in training.optimizer.state.values()} == {1}


@pytest.mark.parametrize("micro", [0, 3])
def test_low_memory_learns_what_the_whole_training_learns(micro):
    whole = train_stage(tiny_model(), Batches(), stage(3, steps=8), VECTORS)
    thin = train_stage(tiny_model(), Batches(), low(steps=8, micro_batch=micro), VECTORS)
    for expected, found in zip(whole.losses, thin.losses, strict=True):
        assert found.shares["prior"] == pytest.approx(expected.shares["prior"], rel=0.03)
        assert found.shares["denoising"] == pytest.approx(expected.shares["denoising"], rel=0.03)
    mine, theirs = (
        torch.cat([dense(r.delta[name]).flatten() for name in whole.delta]) for r in (thin, whole)
    )
    assert torch.cosine_similarity(mine, theirs, dim=0) > 0.9


def test_low_memory_does_not_learn_a_nan_of_the_prior():
    batch = batch_of()
    batch.prior.latents[0, 0, 0, 0] = math.nan
    with training_of(tiny_model(), low(), VECTORS) as training:
        before = [p.detach().clone() for p in training.trainable]
        with pytest.raises(TrainingDivergedError, match="prior preservation loss is nan"):
            training.step(0, batch)
        assert all(torch.equal(a, b) for a, b in zip(before, training.trainable, strict=True))


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("low_memory", [False, True])
def test_the_memory_estimate_knows_of_the_gradient_that_waits(number, low_memory):
    from attndreambooth.attndb.memory.estimate import MemoryEstimator
    from attndreambooth.attndb.memory.meta_trace import Ledger
    from attndreambooth.attndb.training.adamw_in_backward import update_bytes

    backend = tiny_model(levels=2)
    config = stage(number, low_memory=low_memory, precision="bf16")

    # the arithmetic of an update in the backward pass is counted on top, and is over at the peak
    extra = update_bytes(list(backend.unet.parameters())) if config.optimizer_in_backward else 0

    def estimate(prior):
        found = MemoryEstimator(
            model=backend,
            embeddings={"clip_l": (1, 32)},
            prompts=(prompt_of(),),
            latent=(4, 8, 8),
            prior=prior,
        )(config)
        return found.gradients + found.activations - extra

    with training_of(backend, config, VECTORS) as training:
        batch = batch_of()
        at_step(training, lambda: None)  # not counted; an update in backward has none
        learner: Any = training.learner
        training.step(0, batch)  # now there are moments and text states
        kept = learner._text._kept.values()
        texts = [states for one in kept for states in one.text.values()]
        moments = [m for s in training.optimizer.state.values() for m in s.values()]
        held = [t for t in [*moments, *texts] if isinstance(t, torch.Tensor)]
        with Ledger([*training.trainable, *held_by(backend), *held]) as ledger:
            training.step(1, batch)
        real = ledger.peak
    assert abs(estimate(True) - real) < 0.02 * real
    if number == 3:
        assert estimate(False) < 0.9 * real
