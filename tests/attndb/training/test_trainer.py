"""A stage trains what it should, the same way every time, and stops cleanly."""

from __future__ import annotations

import math

import pytest
import torch
from support.gradients import at_step, gradient
from support.observer import Told

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.training.step_loss import StepLoss, TrainingDivergedError
from attndreambooth.devkit.tiny_model import (
    RandomBatches,
    prompt_of,
    random_batch,
    tiny_model,
)
from attndreambooth.devkit.training import (
    context_of,
    losses_of,
    train_stage,
    training_of,
)

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
STRONG = Regularization(mean_weight=200.0, variance_weight=2000.0)


def stage(number, steps=3, rate=1e-3, regularization=STRONG, **changes):
    return StageConfig(
        stage=number,
        steps=steps,
        batch_size=changes.pop("batch_size", 4),
        optimizer=OptimizerConfig(learning_rate=rate),
        regularization=regularization,
        precision=changes.pop("precision", "fp32"),
        **changes,
    )


def weights_of(unet):
    return {name: p.detach().clone() for name, p in unet.named_parameters()}


def hooks(unet):
    return sum(len(module._forward_hooks) for module in unet.modules())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_stage_changes_what_it_trains_and_nothing_else(number):
    backend = tiny_model()
    before = weights_of(backend.unet)
    text_before = context_of(backend, prompt_of(), VECTORS)
    result = train_stage(backend, RandomBatches(), stage(number), VECTORS)
    changed = {
        name for name, p in backend.unet.named_parameters() if not torch.equal(p, before[name])
    }
    wanted = {
        1: set(),
        2: {name for name in before if ".attn2." in name},
        3: set(before),
    }[number]
    assert changed == wanted
    assert set(result.delta) == wanted
    assert torch.equal(result.vectors, VECTORS) == (number != 1)
    assert torch.equal(context_of(backend, prompt_of(), VECTORS), text_before)


def test_stage_2_trains_queries_keys_values_and_outputs_of_every_layer():
    backend = tiny_model(levels=2)
    result = train_stage(backend, RandomBatches(), stage(2, steps=1), VECTORS)
    parts = {name.split(".attn2.")[1] for name in result.delta}
    assert parts == {f"{p}.weight" for p in ("to_q", "to_k", "to_v", "to_out.0")} | {
        "to_out.0.bias"
    }
    assert len(result.delta) == 5 * 7


@pytest.mark.parametrize("number", [2, 3])
def test_the_delta_is_final_minus_initial(number):
    backend = tiny_model()
    before = weights_of(backend.unet)
    result = train_stage(backend, RandomBatches(), stage(number), VECTORS)
    for name, change in result.delta.items():
        assert isinstance(change, torch.Tensor)
        assert change.dtype == torch.float32 and change.device.type == "cpu"
        torch.testing.assert_close(
            change, backend.unet.get_parameter(name).detach() - before[name], rtol=0, atol=0
        )


def test_what_is_given_is_not_changed():
    given = VECTORS.clone()
    train_stage(tiny_model(), RandomBatches(), stage(1), given)
    assert torch.equal(given, VECTORS)


def run(number, seed=0, **changes):
    return train_stage(tiny_model(), RandomBatches(seed=seed), stage(number, **changes), VECTORS)


def same(a, b):
    return (
        torch.equal(a.vectors, b.vectors)
        and a.losses == b.losses
        and a.delta.keys() == b.delta.keys()
        and all(torch.equal(a.delta[name], b.delta[name]) for name in a.delta)
    )


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_same_batches_give_the_same_bytes(number):
    assert same(run(number), run(number))
    assert not same(run(number), run(number, seed=1))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_training_lowers_the_loss_it_minimises(number):
    class Same:
        def __getitem__(self, step):
            return random_batch(4, seed=3)

    for regularization in (STRONG, Regularization(mean_weight=0, variance_weight=0)):
        result = train_stage(tiny_model(), Same(), stage(number, 12, 3e-3, regularization), VECTORS)
        assert result.losses[-1].total < result.losses[0].total


@pytest.mark.parametrize("number", [1, 2])
def test_the_regulariser_draws_the_two_maps_together(number):
    class Same:
        def __getitem__(self, step):
            return random_batch(2, seed=3)

    only = Regularization(mean_weight=2e4, variance_weight=2e5)
    rate = {1: 2e-2, 2: 3e-3}[number]
    tied = train_stage(tiny_model(), Same(), stage(number, 12, rate, only, batch_size=2), VECTORS)
    assert tied.losses[-1].shares["attention_map"] < 0.5 * tied.losses[0].shares["attention_map"]


def test_without_weights_the_regulariser_is_not_even_watched():
    backend = tiny_model(levels=2)
    off = stage(2, regularization=Regularization(mean_weight=0, variance_weight=0))
    with training_of(backend, off, VECTORS) as training:
        assert hooks(backend.unet) == 0
        assert training.step(0, random_batch(2)).read().shares["attention_map"] == 0.0
    with training_of(backend, stage(2), VECTORS) as training:
        assert hooks(backend.unet) == 14
        assert training.step(0, random_batch(2)).read().shares["attention_map"] > 0.0


def test_only_the_chosen_layers_are_tied():
    losses = {}
    for layers in ("all", "down", "middle", "up"):
        chosen = Regularization(mean_weight=2.0, variance_weight=5.0, layers=layers)
        with training_of(
            tiny_model(levels=2), stage(2, regularization=chosen), VECTORS
        ) as training:
            losses[layers] = losses_of(training, random_batch(3))["attention_map"].item()
    counts = {"down": 2, "middle": 1, "up": 4}
    mean = sum(count * losses[layers] for layers, count in counts.items()) / 7
    assert losses["all"] == pytest.approx(mean, rel=1e-5)
    assert len(set(losses.values())) == 4


# ---- micro-batches


def gradient_of(number, micro, batch, **changes):
    """Gradient of one step, taken where the optimiser would use it; and the step's loss."""
    config = stage(number, batch_size=8, micro_batch=micro, **changes)
    taken = []
    with training_of(tiny_model(), config, VECTORS) as training:
        at_step(
            training,
            lambda: taken.extend(gradient(p).clone().flatten() for p in training.trainable),
        )
        loss = training.step(0, batch).read()
    return torch.cat(taken).double(), loss


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("micro", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_of_8_equals_that_of_its_micro_batches(number, micro, masked):
    prompts = [prompt_of(), prompt_of(before=(320, 539), category=99)]
    batch = random_batch(8, seed=11, prompts=prompts, masked=masked)
    whole, loss = gradient_of(number, 0, batch)
    parts, loss_of_parts = gradient_of(number, micro, batch)
    assert float((whole - parts).norm() / whole.norm()) < 1e-5
    assert loss_of_parts.shares["denoising"] == pytest.approx(loss.shares["denoising"], rel=1e-5)
    assert loss_of_parts.shares["attention_map"] == pytest.approx(
        loss.shares["attention_map"], rel=1e-5
    )


def test_the_regulariser_grows_with_the_batch():
    config = stage(2, batch_size=2)
    with training_of(tiny_model(), config, VECTORS) as training:
        batch = random_batch(2, seed=1)
        twice = batch.__class__(
            *(torch.cat([x, x]) for x in (batch.latents, batch.noise, batch.timesteps)),
            prompts=batch.prompts * 2,
        )
        one, two = losses_of(training, batch), losses_of(training, twice)
    assert two["attention_map"].item() == pytest.approx(2 * one["attention_map"].item(), rel=1e-5)
    assert two["denoising"].item() == pytest.approx(one["denoising"].item(), rel=1e-5)


# ---- text, precision


def test_text_is_encoded_once_per_prompt_where_it_does_not_change():
    for number, wanted in ((1, 2 * 3), (2, 2), (3, 2)):
        backend = tiny_model()
        plain, calls = backend.encode_text, []
        backend.encode_text = lambda p, v, plain=plain, calls=calls: calls.append(p) or plain(p, v)
        prompts = [prompt_of(), prompt_of(before=(320,))]
        train_stage(backend, RandomBatches(prompts=prompts), stage(number), VECTORS)
        assert len(calls) == wanted


def test_several_vectors_are_all_trained():
    vectors = 0.3 * torch.randn(3, 32, generator=torch.Generator().manual_seed(5))
    batches = RandomBatches(prompts=[prompt_of(vectors=3)])
    result = train_stage(tiny_model(), batches, stage(1), vectors)
    assert result.vectors.shape == (3, 32)
    assert ((result.vectors - vectors).abs().amax(dim=1) > 1e-4).all()


def test_bf16_trains_close_to_fp32_and_keeps_fp32_weights():
    exact, rough = run(3, rate=1e-4), run(3, rate=1e-4, precision="bf16")
    assert rough.losses != exact.losses
    for a, b in zip(exact.losses, rough.losses, strict=True):
        assert b.shares["denoising"] == pytest.approx(a.shares["denoising"], rel=0.03)
        assert b.shares["attention_map"] == pytest.approx(a.shares["attention_map"], rel=0.1)
    assert all(change.dtype == torch.float32 for change in rough.delta.values())


def test_the_v_objective_is_trained_on():
    losses = [
        train_stage(tiny_model(kind), RandomBatches(), stage(2, steps=1), VECTORS).losses[0]
        for kind in ("epsilon", "v")
    ]
    assert losses[0].shares["denoising"] != pytest.approx(losses[1].shares["denoising"], rel=1e-3)
    assert losses[0].shares["attention_map"] == losses[1].shares["attention_map"]


# ---- stopping


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_steps_give_back_what_was_given(number):
    backend = tiny_model()
    before = weights_of(backend.unet)
    result = train_stage(backend, RandomBatches(), stage(number, steps=0), VECTORS)
    assert result.losses == ()
    assert torch.equal(result.vectors, VECTORS)
    assert all(not dense(change).any() for change in result.delta.values())
    assert all(torch.equal(p, before[n]) for n, p in backend.unet.named_parameters())


class Stopped(Exception):
    """Raised by a test's observer."""


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_observer_can_stop_the_training_and_nothing_stays_hooked(number):
    backend = tiny_model()
    seen = []

    @Told
    def observer(loss, _training):
        seen.append(loss)
        if len(seen) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train_stage(backend, RandomBatches(), stage(number, steps=5), VECTORS, observer)
    assert [loss.step for loss in seen] == [0, 1]
    assert hooks(backend.unet) == 0
    assert not any(p.requires_grad or p.grad is not None for p in backend.unet.parameters())


def test_the_observer_changes_nothing():
    seen = []
    config = stage(2)
    note = Told(lambda loss, _training: seen.append(loss))
    watched = train_stage(tiny_model(), RandomBatches(), config, VECTORS, note)
    assert tuple(seen) == watched.losses
    assert same(watched, run(2))


def poisoned(part):
    """Batches whose third step makes one part of the loss NaN."""

    class Poisoned(RandomBatches):
        def __getitem__(self, step):
            batch = super().__getitem__(step)
            if step == 2 and part == "denoising":
                batch.latents[1, 0, 0, 0] = math.nan
            return batch

    return Poisoned()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_nan_stops_at_once_and_is_not_learned(number):
    backend = tiny_model()
    kept = {}

    @Told
    def observer(loss, _training):
        kept.update(weights_of(backend.unet))

    with pytest.raises(
        TrainingDivergedError, match=r"step 3: the denoising loss is nan.*from step 1"
    ):
        train_stage(backend, poisoned("denoising"), stage(number, 5), VECTORS, observer)
    for name, p in backend.unet.named_parameters():
        assert torch.equal(p, kept[name]) and p.isfinite().all()
    assert hooks(backend.unet) == 0


def test_a_nan_in_the_regulariser_is_named_as_such():
    with pytest.raises(TrainingDivergedError, match="step 8: the attention map loss is inf"):
        StepLoss(7, {"denoising": 0.1, "attention_map": math.inf}).check_finite()


def test_weights_that_became_nan_in_the_last_step_are_not_handed_out():
    backend = tiny_model()

    @Told
    def observer(loss, _training):
        if loss.step == 2:
            with torch.no_grad():
                next(backend.unet.parameters())[0] = math.nan

    with pytest.raises(TrainingDivergedError, match="after step 3"):
        train_stage(backend, RandomBatches(), stage(3, steps=3), VECTORS, observer)
