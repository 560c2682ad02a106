"""Stages with the weight anchor: its gradient on top of the others', exact in parts, resumed."""

from __future__ import annotations

import json

import pytest
import torch
from support.held_to_base import step_away, touched_model
from support.prior import VECTORS, Batches, batch_of, stage
from support.resumed import files_of_both

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.compared import COMPARED, published
from attndreambooth.devkit.tiny_model import tiny_model
from attndreambooth.devkit.training import train_stage, training_of

ANCHOR = 3.0
KINDS = {
    "attn2": (2, {}),
    "whole": (3, {}),
    "lora": (3, {"lora_rank": 2}),
    "bf16": (3, {"precision": "bf16"}),
    "lora, low memory": (3, {"lora_rank": 2, "low_memory": True, "precision": "bf16"}),
}


def gradients(*given, **changes):
    """Of a step away from the start, and its loss; what is trained and the base, by name."""
    step = step_away(*given, **changes)
    return step.gradients, step.loss, step.values, step.began, step.base


def slow_anchor(values, began, base):
    """The sum over all trained weights, multiplied out, and its gradient by autograd."""
    values = {name: value.float().requires_grad_() for name, value in values.items()}
    total = torch.zeros(())
    for name in {name.split(":")[0] for name in values}:
        if name in values:
            weight = values[name]
        else:
            change = values[f"{name}:up"] @ values[f"{name}:down"]
            weight = began[name] + change.reshape(began[name].shape)
        total = total + ((weight - base[name]) ** 2).sum()
    names = list(values)
    found = torch.autograd.grad(total, [values[name] for name in names])
    return total.item(), dict(zip(names, found, strict=True))


@pytest.mark.parametrize(
    ("kind", "changed"), [("attn2", False), ("lora", False), *((kind, True) for kind in KINDS)]
)
def test_the_loss_and_its_gradient_are_the_others_and_the_anchors(kind, changed):
    number, changes = KINDS[kind]
    plain, without, *_ = gradients(number, changed, **changes)
    ours, loss, *rest = gradients(number, changed, weight_anchor=ANCHOR, **changes)
    total, slow = slow_anchor(*rest)
    added = {"weight_anchor": pytest.approx(ANCHOR * total, rel=1e-4)}
    assert total > 0.1 and dict(loss.shares) == {**without.shares, **added}
    assert loss.total == pytest.approx(without.total + ANCHOR * total, rel=1e-4)
    for name in slow:
        wanted = plain[name].float() + ANCHOR * slow[name]
        torch.testing.assert_close(ours[name].float(), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "micro", "checkpointing"), [("attn2", 4, "off"), ("lora", 1, "full")]
)
def test_it_counts_once_in_however_many_parts(kind, micro, checkpointing):
    number, changes = KINDS[kind]
    whole, loss, *_ = gradients(number, weight_anchor=ANCHOR, **changes)
    runtime = {"micro_batch": micro, "gradient_checkpointing": checkpointing}
    parts, of_parts, *_ = gradients(number, weight_anchor=ANCHOR, **runtime, **changes)
    a, b = (torch.cat([g.flatten() for g in gs.values()]) for gs in (whole, parts))
    assert float((a - b).norm() / a.norm()) < 1e-5
    assert of_parts.shares["weight_anchor"] == loss.shares["weight_anchor"]


def drift(number, steps=8, **changes):
    """Squared change of all weights in a short training."""
    result = train_stage(tiny_model(), Batches(), stage(number, steps=steps, **changes), VECTORS)
    return sum(float(dense(d).square().sum()) for d in result.delta.values()), result


@pytest.mark.parametrize("kind", ["attn2", "whole", "lora"])
def test_the_weights_stay_nearer_to_the_base(kind):
    number, changes = KINDS[kind]
    free, _ = drift(number, **changes)
    held, result = drift(number, weight_anchor=10.0, **changes)
    assert held < 0.6 * free
    assert [loss.shares["weight_anchor"] > 0 for loss in result.losses] == [False, *[True] * 7]


def test_low_memory_updates_once_and_learns_what_the_whole_training_learns():
    whole = drift(3, 5, weight_anchor=3.0)[1]
    low = {"low_memory": True, "precision": "bf16", "micro_batch": 3}
    thin = drift(3, 5, weight_anchor=3.0, **low)[1]
    for expected, found in zip(whole.losses, thin.losses, strict=True):
        assert found.shares["denoising"] == pytest.approx(expected.shares["denoising"], rel=0.03)
    a, b = (torch.cat([dense(r.delta[n]).flatten() for n in whole.delta]) for r in (thin, whole))
    assert torch.cosine_similarity(a, b, dim=0) > 0.8  # bf16 resolves the small ones poorly
    with training_of(tiny_model(), stage(3, weight_anchor=1.0, **low), VECTORS) as training:
        training.step(0, batch_of())
        assert {state["step"] for state in training.optimizer.state.values()} == {1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, kind):
    number, changes = KINDS[kind]
    config = stage(number, steps=4, weight_anchor=ANCHOR, **changes)

    def train(callback, run):
        return train_stage(touched_model(True), Batches(), config, VECTORS, callback, run)

    result, (whole, stopped) = files_of_both(tmp_path, train)
    assert whole == stopped
    line = json.loads((tmp_path / "whole" / "losses.jsonl").read_text().splitlines()[-1])
    assert line["weight_anchor"] == result.losses[-1].shares["weight_anchor"] > 0


@pytest.mark.parametrize(("low_memory", "changed"), [(False, False), (False, True), (True, True)])
def test_the_memory_estimate_counts_the_base(low_memory, changed):
    from attndreambooth.attndb.memory.estimate import MemoryEstimator
    from attndreambooth.devkit.tiny_model import prompt_of

    def estimate(config, device):
        backend = touched_model(changed)
        backend.device = torch.device(device)
        made = MemoryEstimator(
            model=backend,
            embeddings={"clip_l": (1, 32)},
            prompts=(prompt_of(),),
            latent=(4, 8, 8),
        )(config)
        return made, {n: p.shape for n, p in backend.unet.named_parameters()}

    plain = stage(3, low_memory=low_memory, precision="bf16")
    anchored = plain.with_(weight_anchor=1.0)
    on_card, shapes = estimate(anchored, "cuda")
    sizes = [
        torch.Size(s).numel() * (2 if low_memory and len(s) > 1 else 4) for s in shapes.values()
    ]
    assert estimate(plain, "cuda")[0].base == 0 and on_card.base == sum(sizes)
    on_cpu = estimate(anchored, "cpu")[0]
    assert (on_cpu.base > 0) == (low_memory and changed)  # else it waits there anyway
    thin = estimate(anchored.with_(lora_rank=2, low_memory=False), "cuda")[0].base
    # a LoRA leaves biases as they are
    names = [name for name in touched_model(changed).base_weights if len(shapes[name]) > 1]
    assert bool(names) == changed
    assert thin == sum(4 * torch.Size(shapes[name]).numel() for name in names)
    if low_memory:  # the gradient of the samples waits for the anchor's
        assert on_card.gradients == sum(4 * torch.Size(s).numel() for s in shapes.values())


# ---- settings

NAMES = ("weight_anchor", "prior_prediction")


@pytest.mark.parametrize("name", NAMES)
def test_off_a_run_is_known_by_what_it_was_known_by(name):
    plain = stage(3)
    assert name not in plain.as_dict() and name not in plain.identity()
    assert plain.with_(**{name: 2.0}).identity() == {**plain.identity(), name: 2.0}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_refused_by_name_where_it_holds_nothing(name):
    for value in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"{name} = {value}: use 0"):
            stage(3, **{name: value})
    with pytest.raises(ValueError, match=f"{name} = 1.0: stage 1 trains no weights"):
        stage(1, **{name: 1.0})
    for method in COMPARED:
        with pytest.raises(ValueError, match=f"{name} = 1.0: {method} does not have it: use 0"):
            published(method).with_(**{name: 1.0})
