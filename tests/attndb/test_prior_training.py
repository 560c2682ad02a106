"""Training with prior samples: the loss is DreamBooth's, and exact however it is computed."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from support.tiny_model import DOLL, END, PHOTO_OF, START, prompt_of, random_batch, tiny_backend

from attndreambooth.attndb import attention
from attndreambooth.attndb.config import OptimizerConfig, Regularization, StageConfig
from attndreambooth.attndb.losses import StepLoss, TrainingDivergedError
from attndreambooth.attndb.plot import loss_curve
from attndreambooth.attndb.run import Run
from attndreambooth.attndb.stage import StageTraining
from attndreambooth.attndb.tokens import TokenizedText
from attndreambooth.attndb.trainer import Silent, train_stage

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
CLASS = TokenizedText("a photo of a doll", (START, *PHOTO_OF, DOLL, *[END] * 71))
WEIGHT = 0.7


def stage(number, **changes):
    shared = {
        "stage": number,
        "steps": 3,
        "batch_size": 4,
        "optimizer": OptimizerConfig(learning_rate=1e-3),
        "regularization": Regularization(mean_weight=200.0, variance_weight=2000.0),
        "precision": "fp32",
    }
    return StageConfig(**{**shared, **changes})


def batch_of(size=4, prior=4, seed=0, weight=WEIGHT, masked=True):
    """A batch of the subject, with prior samples next to it."""
    prior = random_batch(prior, seed=seed + 500, prompts=[CLASS]) if prior else None
    own = random_batch(size, seed=seed, masked=masked)
    return dataclasses.replace(own, prior=prior, prior_weight=weight)


class Batches:
    """Step s has a batch of its own."""

    def __init__(self, prior=4):
        self._prior = prior

    def __getitem__(self, step):
        return batch_of(prior=self._prior, seed=step)


def gradient_of(number, batch, kind="epsilon", **changes):
    """Gradient of one step by parameter, where the optimiser would use it; the step's loss."""
    backend = tiny_backend(kind)
    taken = {}
    with StageTraining(backend, stage(number, **changes), VECTORS) as training:
        training.optimizer.step = lambda: taken.update(
            {name: p.grad.clone() for name, p in training.parameters.items()}
        )
        loss = training.step(0, batch)
    return taken, loss


# ---- the formula


def slow_denoising(backend, batch, gamma):
    """L_diff sample by sample and in plain numbers where it can be."""
    abars = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abars = torch.cumprod(1 - abars, dim=0)
    mask = torch.ones(len(batch), 1, *batch.latents.shape[2:]) if batch.mask is None else batch.mask
    total = 0.0
    for i in range(len(batch)):
        z0, eps, t = batch.latents[i : i + 1], batch.noise[i : i + 1], batch.timesteps[i : i + 1]
        abar = float(abars[int(t)])
        context = backend.encode_text(batch.prompts[i], VECTORS).detach()
        out = backend.unet(
            math.sqrt(abar) * z0 + math.sqrt(1 - abar) * eps,
            t,
            context=context,
            transformer_options={},
        )
        v = backend.diffusion.prediction_type == "v"
        target = math.sqrt(abar) * eps - math.sqrt(1 - abar) * z0 if v else eps
        snr = abar / (1 - abar)
        share = min(snr, gamma) / (snr + 1 if v else snr) if gamma else 1.0
        total = total + share * ((out - target) ** 2 * mask[i]).sum()
    return total / (mask.sum() * batch.latents.shape[1])


def slow_regularization(backend, batch, weights):
    """L_reg from whole attention matrices, taken by hooks of the test's own."""
    seen = {}
    layers = [(n, m) for n, m in backend.unet.named_modules() if n.endswith("attn2")]
    handles = []
    for name, module in layers:
        for part in ("to_q", "to_k"):
            note = lambda _m, _i, out, key=(name, part): seen.__setitem__(key, out)  # noqa: E731
            handles.append(getattr(module, part).register_forward_hook(note))
    try:
        whole_forward(backend, batch)
    finally:
        for handle in handles:
            handle.remove()
    total = 0.0
    for name, module in layers:
        q, k = seen[name, "to_q"], seen[name, "to_k"]
        for i in range(len(batch)):
            columns = []
            for head in torch.arange(q.shape[-1]).chunk(module.heads):
                logits = q[i][:, head] @ k[i][:, head].T / math.sqrt(len(head))
                columns.append(logits.softmax(dim=1)[:, list(batch.prompts[i].columns)])
            new, tied = torch.cat(columns).T
            total = total + weights.mean_weight * (new.mean() - tied.mean()) ** 2
            total = total + weights.variance_weight * (new.var() - tied.var()) ** 2
    return total / len(layers)


def whole_forward(backend, batch):
    """One forward pass over the whole batch."""
    abar = backend.diffusion.alphas_cumprod[batch.timesteps].float()[:, None, None, None]
    context = torch.cat([backend.encode_text(p, VECTORS) for p in batch.prompts]).detach()
    z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
    backend.unet(z_t, batch.timesteps, context=context, transformer_options={})


@pytest.mark.parametrize(
    ("number", "kind", "gamma"), [(2, "epsilon", 0.0), (3, "epsilon", 5.0), (3, "v", 5.0)]
)
def test_the_loss_is_the_subjects_plus_the_weighted_priors_plus_the_regulariser(
    number, kind, gamma
):
    batch = batch_of()
    gradient, loss = gradient_of(number, batch, kind, min_snr_gamma=gamma)
    backend = tiny_backend(kind)
    trained = {n: p for n, p in backend.unet.named_parameters() if n in gradient}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    own = slow_denoising(backend, batch, gamma)
    prior = WEIGHT * slow_denoising(backend, batch.prior, gamma)
    regularization = slow_regularization(backend, batch, stage(number).regularization)
    total = own + prior + regularization
    wanted = torch.autograd.grad(total, list(trained.values()))
    assert loss.denoising == pytest.approx(own.item(), rel=1e-5)
    assert loss.prior == pytest.approx(prior.item(), rel=1e-5)
    assert loss.regularization == pytest.approx(regularization.item(), rel=1e-4)
    assert loss.total == pytest.approx(total.item(), rel=1e-5)
    ours = torch.cat([gradient[name].flatten() for name in trained])
    slow = torch.cat([g.flatten() for g in wanted])
    assert float((ours - slow).norm() / slow.norm()) < 1e-4
    alone, _ = gradient_of(number, batch_of(prior=0), kind, min_snr_gamma=gamma)
    assert float((ours - torch.cat([alone[n].flatten() for n in trained])).norm()) > 0.01 * float(
        slow.norm()
    )


@pytest.mark.parametrize("number", [2, 3])
def test_the_other_parts_of_the_loss_do_not_know_of_prior_samples(number):
    _, alone = gradient_of(number, batch_of(prior=0))
    _, with_prior = gradient_of(number, batch_of())
    assert alone.prior == 0.0 and with_prior.prior > 0.0
    assert with_prior.regularization == alone.regularization > 0.0
    assert with_prior.denoising == alone.denoising


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("micro", [1, 2, 3])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_micro_batches_add_up_to_the_whole(number, micro, checkpointing):
    batch = batch_of(size=6, prior=5)
    whole, loss = gradient_of(number, batch)
    parts, loss_of_parts = gradient_of(
        number, batch, micro_batch=micro, gradient_checkpointing=checkpointing
    )
    a, b = (torch.cat([g.flatten() for g in gs.values()]).double() for gs in (whole, parts))
    assert float((a - b).norm() / a.norm()) < 1e-5
    for name in ("denoising", "regularization", "prior"):
        assert getattr(loss_of_parts, name) == pytest.approx(getattr(loss, name), rel=1e-5)


def test_a_micro_batch_is_no_larger_than_asked_for():
    backend, sizes = tiny_backend(), []
    plain = backend.predict
    backend.predict = lambda z, t, c: sizes.append(len(z)) or plain(z, t, c)
    with StageTraining(backend, stage(2, micro_batch=2), VECTORS) as training:
        training.step(0, batch_of(size=4, prior=3))
    assert sizes == [2, 2, 2, 1]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_attention_is_watched_while_prior_samples_are_computed(monkeypatch, checkpointing):
    watched = []
    plain = attention.column_statistics

    def counted(q, *args):
        watched.append(len(q))
        return plain(q, *args)

    monkeypatch.setattr(attention, "column_statistics", counted)
    config = stage(2, micro_batch=2, gradient_checkpointing=checkpointing)
    with StageTraining(tiny_backend(), config, VECTORS) as training:
        training.step(0, batch_of(size=4, prior=0))
        alone = len(watched)
        watched.clear()
        training.step(1, batch_of(size=4, prior=3))
    assert len(watched) == alone > 0 and set(watched) == {2}


def test_the_class_prompt_is_encoded_once():
    backend = tiny_backend()
    plain, calls = backend.encode_text, []
    backend.encode_text = lambda p, v: calls.append(p) or plain(p, v)
    train_stage(backend, Batches(), stage(3), VECTORS)
    assert sorted(calls, key=str) == sorted([prompt_of(), CLASS], key=str)


def test_prior_samples_hold_the_model_to_the_class():
    """The loss on the class after a training with prior samples is below that without them."""

    class Same:
        def __init__(self, prior):
            self._prior = prior

        def __getitem__(self, step):
            return batch_of(prior=self._prior, weight=1.0, seed=3)

    held = {}
    for prior in (0, 4):
        backend = tiny_backend()
        train_stage(backend, Same(prior), stage(3, steps=12), VECTORS)
        with torch.no_grad():
            held[prior] = float(slow_denoising(backend, batch_of(seed=3).prior, 0.0))
    with torch.no_grad():
        before = float(slow_denoising(tiny_backend(), batch_of(seed=3).prior, 0.0))
    assert held[4] < 0.9 * before and held[4] < 0.9 * held[0]


def test_stage_1_has_no_use_for_prior_samples():
    with (
        StageTraining(tiny_backend(), stage(1), VECTORS) as training,
        pytest.raises(AssertionError, match="no gradient in the embedding"),
    ):
        training.step(0, batch_of())


# ---- the run folder


class Stopped(Exception):
    """Raised by a test's observer."""


class Stopping(Silent):
    """Stops a training after its second step."""

    def __call__(self, loss, training):
        if loss.step == 1:
            raise Stopped


@pytest.mark.parametrize("number", [2, 3])
def test_a_resumed_run_with_prior_samples_is_the_uninterrupted_one(tmp_path, number):
    config = stage(number, steps=4)
    with Run(tmp_path / "whole", {}) as run:
        run.finish(train_stage(tiny_backend(), Batches(), config, VECTORS, run=run))
    with Run(tmp_path / "broken", {}) as run:
        with pytest.raises(Stopped):
            train_stage(tiny_backend(), Batches(), config, VECTORS, Stopping(), run)
        result = train_stage(tiny_backend(), Batches(), config, VECTORS, run=run)
        run.finish(result)
        again = run.finished()
    for name in ("result.safetensors", "losses.jsonl"):
        whole, broken = ((tmp_path / f / name).read_bytes() for f in ("whole", "broken"))
        assert whole == broken
    assert again.losses == result.losses and all(loss.prior > 0 for loss in again.losses)
    lines = (tmp_path / "broken" / "losses.jsonl").read_text().splitlines()
    for line, loss in zip(map(json.loads, lines), result.losses, strict=True):
        assert line["prior"] == loss.prior and line["loss"] == loss.total


def test_without_prior_samples_files_are_as_they_were(tmp_path):
    with Run(tmp_path, {}) as run:
        result = train_stage(tiny_backend(), Batches(prior=0), stage(2), VECTORS, run=run)
        run.finish(result)
        lines = (tmp_path / "losses.jsonl").read_text().splitlines()
        assert set(json.loads(lines[0])) == {"step", "loss", "denoising", "attention_map"}
        assert [loss.parts for loss in result.losses] == [
            [loss.denoising, loss.regularization] for loss in result.losses
        ]
        assert run.finished().losses == result.losses


# ---- told


def test_a_nan_of_the_prior_is_named_and_not_learned():
    backend = tiny_backend()
    before = {name: p.detach().clone() for name, p in backend.unet.named_parameters()}
    batch = batch_of()
    batch.prior.latents[0, 0, 0, 0] = math.nan
    with (
        StageTraining(backend, stage(3), VECTORS) as training,
        pytest.raises(TrainingDivergedError, match="step 5: the prior preservation loss is nan"),
    ):
        training.step(4, batch)
    assert all(torch.equal(p, before[name]) for name, p in backend.unet.named_parameters())


def test_the_parts_of_a_loss_add_up():
    assert StepLoss(0, 0.5, 0.25).total == 0.75
    assert StepLoss(0, 0.5, 0.25, 0.125).total == 0.875
    assert StepLoss(0, 0.5, 0.25, 0.125).parts == [0.5, 0.25, 0.125]
    StepLoss(0, 0.5, 0.25, 0.125).check_finite()


def test_the_loss_curve_has_a_panel_for_the_prior_where_there_is_one():
    values = [0.5, 0.3, 0.2]
    plain = loss_curve(values, values, "title")
    assert loss_curve(values, values, "title", prior=[0.0] * 3).tobytes() == plain.tobytes()
    three = loss_curve(values, values, "title", prior=values)
    assert three.size == plain.size
    green = (120, 210, 130)
    colours = [{c for _, c in picture.getcolors(1 << 24)} for picture in (plain, three)]
    assert green not in colours[0] and green in colours[1]


# ---- low memory: the update inside the backward pass


def low(**changes):
    return stage(3, low_memory=True, precision="bf16", **changes)


@pytest.mark.parametrize("micro", [0, 2])
def test_low_memory_updates_once_and_after_the_prior_samples(micro):
    with StageTraining(tiny_backend(), low(micro_batch=micro), VECTORS) as training:
        before = [p.detach().clone() for p in training.trainable]
        seen = []
        plain = training.denoising

        def watched(*args):
            pairs = zip(before, training.trainable, strict=True)
            seen.append(all(torch.equal(a, b) for a, b in pairs))
            return plain(*args)

        training.denoising = watched
        training.step(0, batch_of())
        assert seen and all(seen)
        assert not all(torch.equal(a, b) for a, b in zip(before, training.trainable, strict=True))
        assert {state["step"] for state in training.optimizer.state.values()} == {1}


@pytest.mark.parametrize("micro", [0, 3])
def test_low_memory_learns_what_the_whole_training_learns(micro):
    whole = train_stage(tiny_backend(), Batches(), stage(3, steps=8), VECTORS)
    thin = train_stage(tiny_backend(), Batches(), low(steps=8, micro_batch=micro), VECTORS)
    for expected, found in zip(whole.losses, thin.losses, strict=True):
        assert found.prior == pytest.approx(expected.prior, rel=0.03)
        assert found.denoising == pytest.approx(expected.denoising, rel=0.03)
    mine, theirs = (
        torch.cat([r.delta[name].flatten() for name in whole.delta]) for r in (thin, whole)
    )
    assert torch.cosine_similarity(mine, theirs, dim=0) > 0.9


def test_low_memory_does_not_learn_a_nan_of_the_prior():
    batch = batch_of()
    batch.prior.latents[0, 0, 0, 0] = math.nan
    with StageTraining(tiny_backend(), low(), VECTORS) as training:
        before = [p.detach().clone() for p in training.trainable]
        with pytest.raises(TrainingDivergedError, match="prior preservation loss is nan"):
            training.step(0, batch)
        assert all(torch.equal(a, b) for a, b in zip(before, training.trainable, strict=True))
