"""Stages with prior by prediction: the distance to the base's answer, sample by sample."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from support.gradients import at_step
from support.held_to_base import step_away, touched_model, wander
from support.prior import CLASS, VECTORS, Batches, batch_of, stage
from support.resumed import files_of_both

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.devkit.tiny_model import (
    END,
    START,
    prompt_of,
    random_batch,
    tiny_model,
)
from attndreambooth.devkit.training import (
    context_of,
    train_stage,
    training_of,
)

WEIGHT = 1.3
KINDS = {
    "attn2": (2, {}),
    "whole": (3, {}),
    "whole, min-SNR": (3, {"min_snr_gamma": 5.0}),
    "lora": (3, {"lora_rank": 2}),
    "both": (2, {"weight_anchor": 2.0}),
    "bf16": (3, {"precision": "bf16"}),
    "low memory": (3, {"precision": "bf16", "low_memory": True}),
    "lora, low memory": (3, {"lora_rank": 2, "low_memory": True, "precision": "bf16"}),
}


def gradients(*given, **changes):
    """Of a step away from the start, its loss, and the values that were trained, by name."""
    step = step_away(*given, **changes)
    return step.gradients, step.loss, step.values


def slow_distance(values, changed, kind, gamma):
    """Sample by sample, on whole weights that are put together here; its gradient by autograd."""
    backend = touched_model(changed, kind)
    began = {n: p.detach().clone() for n, p in backend.unet.named_parameters()}
    values = {name: value.requires_grad_() for name, value in values.items()}
    now = dict(began)
    for name in {name.split(":")[0] for name in values}:
        if name in values:
            now[name] = values[name]
        else:
            change = values[f"{name}:up"] @ values[f"{name}:down"]
            now[name] = began[name] + change.reshape(began[name].shape)
    base = {**began, **backend.base_weights}
    batch, total = batch_of(size=6, prior=0), torch.zeros(())
    context = context_of(backend, CLASS, VECTORS).detach()
    abars = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abars = torch.cumprod(1 - abars, dim=0)
    for z0, eps, t in zip(batch.latents, batch.noise, batch.timesteps, strict=True):
        abar = float(abars[int(t)])
        z_t = (math.sqrt(abar) * z0 + math.sqrt(1 - abar) * eps)[None]
        asked = {"context": context, "transformer_options": {}}
        ours, theirs = (
            torch.func.functional_call(backend.unet, weights, (z_t, t[None]), asked)
            for weights in (now, base)
        )
        snr = abar / (1 - abar)
        share = min(snr, gamma) / (snr + (kind == "v")) if gamma else 1.0
        total = total + share * ((ours - theirs.detach()) ** 2).sum()
    total = total / batch.latents.numel()
    names = list(values)
    found = torch.autograd.grad(total, [values[name] for name in names], allow_unused=True)
    return total.item(), dict(zip(names, found, strict=True))


@pytest.mark.parametrize(
    ("kind", "changed", "predicts"),
    [
        ("attn2", False, "epsilon"),
        ("attn2", True, "v"),
        ("whole", True, "epsilon"),
        ("whole, min-SNR", False, "v"),
        ("lora", False, "epsilon"),
        ("lora", True, "epsilon"),
    ],
)
def test_the_loss_and_its_gradient_are_the_others_and_the_distances(kind, changed, predicts):
    number, changes = KINDS[kind]
    plain, without, _ = gradients(number, changed, predicts, **changes)
    ours, loss, values = gradients(number, changed, predicts, prior_prediction=WEIGHT, **changes)
    total, slow = slow_distance(values, changed, predicts, changes.get("min_snr_gamma", 0.0))
    added = {"prior_prediction": pytest.approx(WEIGHT * total, rel=1e-4)}
    assert total > 1e-3 and dict(loss.shares) == {**without.shares, **added}
    assert loss.shares["attention_map"] > 0
    a = torch.cat([(ours[n] - plain[n]).flatten() for n in slow])
    b = torch.cat([WEIGHT * slow[n].flatten() for n in slow])
    assert float((a - b).norm() / b.norm()) < 1e-3


@pytest.mark.parametrize("kind", ["attn2", "lora", "bf16"])
@pytest.mark.parametrize(("micro", "checkpointing"), [(1, "full"), (4, "light")])
def test_micro_batches_add_up_to_the_whole(kind, micro, checkpointing):
    number, changes = KINDS[kind]
    whole, loss, _ = gradients(number, prior_prediction=WEIGHT, **changes)
    runtime = {"micro_batch": micro, "gradient_checkpointing": checkpointing}
    parts, of_parts, _ = gradients(number, prior_prediction=WEIGHT, **runtime, **changes)
    a, b = (torch.cat([g.flatten() for g in gs.values()]) for gs in (whole, parts))
    near = 2e-2 if kind == "bf16" else 1e-5
    assert float((a - b).norm() / a.norm()) < near
    name = "prior_prediction"
    assert of_parts.shares[name] == pytest.approx(loss.shares[name], rel=near)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_base_there_is_no_distance_and_the_weights_come_back(kind):
    """Also in bf16: what the base would round, its copy has rounded."""
    number, changes = KINDS[kind]
    backend = touched_model()
    config = stage(number, prior_prediction=WEIGHT, **changes)
    with training_of(backend, config, VECTORS) as training:
        before = [(p.data_ptr(), p.dtype) for p in backend.unet.parameters()]
        totals = _totals()
        found = training.learner.losses(batch_of(prior=0).for_base(), totals)
        assert found["prior_prediction"].item() == 0.0
        assert [(p.data_ptr(), p.dtype) for p in backend.unet.parameters()] == before
        wander(training)
        found = training.learner.losses(batch_of(prior=0).for_base(), totals)
        assert found["prior_prediction"].item() > 1e-4


def _totals():
    from attndreambooth.attndb.losses.totals import LossTotals

    return LossTotals.of(batch_of(prior=0))


def test_an_error_while_the_base_answers_leaves_the_trained_weights_in_place():
    backend = touched_model(True)
    with training_of(backend, stage(3, prior_prediction=WEIGHT), VECTORS) as training:
        before = [p.data_ptr() for p in training.trainable]
        plain, backend.denoise = backend.denoise, lambda *_: 1 / 0
        with pytest.raises(ZeroDivisionError):
            training.learner.losses(batch_of(prior=0).for_base(), _totals())
        backend.denoise = plain
        assert [p.data_ptr() for p in training.trainable] == before


def test_a_micro_batch_is_no_larger_than_asked_for():
    backend, sizes = tiny_model(), []
    plain = backend.denoise
    backend.denoise = lambda z, t, c: sizes.append(len(z)) or plain(z, t, c)
    config = stage(2, micro_batch=3, prior_prediction=WEIGHT)
    with training_of(backend, config, VECTORS) as training:
        training.step(0, batch_of(size=4, prior=0))
    assert sizes == [3, 1, 3, 3, 1, 1]


@pytest.mark.parametrize("kind", ["whole", "lora"])
def test_what_the_category_is_answered_stays_nearer_to_the_base(kind):
    number, changes = KINDS[kind]
    if changes:
        changes = {**changes, "optimizer": OptimizerConfig(learning_rate=2e-2)}
    far = {}
    for weight in (0.0, 3.0):
        backend = tiny_model()
        config = stage(number, steps=8, prior_prediction=weight, **changes)
        result = train_stage(backend, Batches(prior=0), config, VECTORS)
        with torch.no_grad():
            for name, change in result.delta.items():
                if changes:
                    backend.unet.get_parameter(name).add_(dense(change))
            far[weight] = _distance(backend, tiny_model())
        if weight:
            begun, *others = [loss.shares["prior_prediction"] for loss in result.losses]
            assert begun == 0.0 and min(others) > 0.0
    assert far[3.0] < 0.7 * far[0.0]


def _distance(one, other):
    batch = random_batch(4, seed=77, prompts=[CLASS])
    context = context_of(one, CLASS, VECTORS).expand(4, -1, -1)
    answers = [
        m.unet(batch.latents, batch.timesteps, context=context, transformer_options={})
        for m in (one, other)
    ]
    return float((answers[0] - answers[1]).square().mean())


@pytest.mark.parametrize("kind", ["attn2", "lora", "both", "low memory", "lora, low memory"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, kind):
    number, changes = KINDS[kind]
    config = stage(number, prior_prediction=WEIGHT, **changes)

    def train(callback, run):
        return train_stage(touched_model(True), Batches(), config, VECTORS, callback, run)

    _, (whole, stopped) = files_of_both(tmp_path, train)
    assert whole == stopped


def test_low_memory_updates_once_and_after_all_samples():
    config = stage(3, micro_batch=3, prior_prediction=1.0, precision="bf16", low_memory=True)
    with training_of(tiny_model(), config, VECTORS) as training:
        before = [p.detach().clone() for p in training.trainable]
        for part in training.learner.parts(batch_of(), _totals(), 3):
            part()
        assert all(torch.equal(a, b) for a, b in zip(before, training.trainable, strict=True))
        training.step(0, batch_of())
        assert {state["step"] for state in training.optimizer.state.values()} == {1}
        assert {p.dtype for p in training.trainable if p.ndim > 1} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["attn2", "low memory", "bf16"])
def test_the_memory_estimate_knows_the_base_and_the_gradient_that_waits(kind):
    from support.bytes_held import held_by

    from attndreambooth.attndb.memory.estimate import MemoryEstimator
    from attndreambooth.attndb.memory.meta_trace import Ledger
    from attndreambooth.attndb.training.adamw_in_backward import update_bytes

    number, changes = KINDS[kind]
    backend = touched_model(True, levels=2)
    config = stage(number, prior_prediction=1.0, **{"precision": "bf16", **changes})
    extra = update_bytes(list(backend.unet.parameters())) if config.optimizer_in_backward else 0
    estimate = MemoryEstimator(
        model=backend, embeddings={"clip_l": (1, 32)}, prompts=(prompt_of(),), latent=(4, 8, 8)
    )(config)
    backend = touched_model(True, levels=2)
    with training_of(backend, config, VECTORS) as training:
        batch = batch_of(prior=0)
        learner: Any = training.learner
        at_step(training, lambda: None)  # its temporaries are not counted
        training.step(0, batch)
        texts = [s for one in learner._text._kept.values() for s in one.text.values()]
        moments = [m for s in training.optimizer.state.values() for m in s.values()]
        held = [t for t in [*moments, *texts] if isinstance(t, torch.Tensor)]
        base = training.learner.base
        with Ledger([*training.trainable, *held_by(backend), *held, *base.tensors]) as ledger:
            training.step(1, batch)
        assert estimate.base == base.bytes_held(on_the_cpu=True)
        on_a_card = base.bytes_held(on_the_cpu=False)
    said = estimate.gradients + estimate.activations - extra
    assert said == pytest.approx(ledger.peak, rel=0.02)
    matrices = [p.numel() for p in training.trainable if p.ndim > 1]
    assert 2 * sum(matrices) <= on_a_card < 2.5 * sum(matrices)


def test_it_trains_compiled(monkeypatch):
    plain = torch.nn.Module.compile  # a C++ compiler is not on every machine; graphs are enough
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m: plain(m, backend="aot_eager"))
    config = stage(2, steps=2, prior_prediction=1.0)
    losses = [
        train_stage(tiny_model(), Batches(prior=0), c, VECTORS).losses
        for c in (config, config.with_(compile=True))
    ]
    for a, b in zip(*losses, strict=True):
        assert a.total == pytest.approx(b.total, rel=1e-4)


# ---- prompts and settings


def test_the_prompt_is_its_own_without_the_placeholder():
    one, three = prompt_of().without_placeholder(), prompt_of(vectors=3).without_placeholder()
    assert one.tokens == three.tokens == CLASS.tokens and None not in one.tokens
    padded = dataclasses.replace(prompt_of(), tokens=(START, None, 7061, END, *[0] * 73))
    padded = dataclasses.replace(padded, category=2)
    assert padded.without_placeholder().tokens == (START, 7061, END, *[0] * 74)


def test_every_sample_has_its_own_prompt_and_counts_whole():
    prompts = [prompt_of(), prompt_of(before=(320, 1125))]
    batch = random_batch(4, prompts=prompts, masked=True).for_base()
    assert [p.tokens for p in batch.prompts] == [
        p.without_placeholder().tokens for p in prompts * 2
    ]
    assert batch.mask is None and batch.subject is None
    assert batch.of_base and batch.part(0, 2).of_base and batch.to(torch.device("cpu")).of_base
