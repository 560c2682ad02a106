"""Low memory: the update inside the backward pass is AdamW's, and never loses the work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.memory.meta_trace import Ledger
from attndreambooth.attndb.training import adamw_in_backward
from attndreambooth.attndb.training.adamw_in_backward import AdamWInBackward
from attndreambooth.attndb.training.callback import NoCallback
from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.update import UpdateInBackward
from attndreambooth.devkit.tiny_model import RandomBatches, random_batch, tiny_model
from attndreambooth.devkit.training import train_stage, training_of

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
CONSTANTS = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}


def stage(steps=3, low_memory=True, batch_size=4, rate=1e-3, **changes):
    return StageConfig(
        stage=changes.pop("number", 3),
        steps=steps,
        batch_size=batch_size,
        optimizer=OptimizerConfig(learning_rate=rate),
        low_memory=low_memory,
        precision=changes.pop("precision", "bf16"),
        **changes,
    )


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.LayerNorm(16), torch.nn.Linear(16, 4)
    )


def test_in_fp32_it_is_adamw(monkeypatch):
    monkeypatch.setattr(adamw_in_backward, "PIECE", 37)  # matrices are updated in several pieces
    inputs = torch.randn(5, 6, 8)
    plain, ours = network(), network()
    theirs = torch.optim.AdamW(plain.parameters(), **CONSTANTS)
    with AdamWInBackward(list(ours.parameters()), seed=0, **CONSTANTS) as mine:
        for x in inputs:
            plain(x).square().mean().backward()
            theirs.step()
            theirs.zero_grad()
            mine.mode = "gather"
            (ours(x[:2]).square().sum() / 24).backward()
            mine.mode = "update"
            (ours(x[2:]).square().sum() / 24).backward()
            assert all(p.grad is None for p in ours.parameters())
    for expected, found in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_small_update_survives_in_bf16_on_average():
    weight = torch.nn.Parameter(torch.ones(20000, 1, dtype=torch.bfloat16))
    changes = {**CONSTANTS, "lr": 1e-4, "weight_decay": 0.0}
    with AdamWInBackward([weight], seed=0, **changes) as optimizer:
        optimizer.mode = "update"
        for _ in range(10):
            weight.sum().backward()
    moved = 1.0 - float(weight.detach().float().mean())
    # ten steps of 1e-4, of which bf16 (half a step below 1: 2e-3) could not hold one
    assert abs(moved - 10 * 1e-4) < 5e-5
    assert weight.unique().numel() > 1


def test_gradients_never_exist_all_together():
    counts = []
    with training_of(tiny_model(), stage(), VECTORS) as training:
        training.step(0, random_batch(4))
        for parameter in training.trainable:
            parameter.register_post_accumulate_grad_hook(
                lambda _: counts.append(sum(p.grad is not None for p in training.trainable))
            )
        training.step(1, random_batch(4, seed=1))
    assert len(counts) == len(training.trainable) and max(counts) <= 2


def test_matrices_and_means_are_bf16_meanwhile_and_the_rest_is_fp32():
    backend = tiny_model()
    with training_of(backend, stage(), VECTORS) as training:
        training.step(0, random_batch(4))
        for parameter in training.trainable:
            wanted = torch.bfloat16 if parameter.ndim >= 2 else torch.float32
            state = training.optimizer.state[parameter]
            assert {parameter.dtype, state["exp_avg"].dtype, state["exp_avg_sq"].dtype} == {wanted}
    assert {p.dtype for p in backend.unet.parameters()} == {torch.float32}


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_it_learns_what_the_whole_training_learns(micro_batch):
    config = stage(steps=12, low_memory=False, precision="fp32")
    whole = train_stage(tiny_model(), RandomBatches(), config, VECTORS)
    low = train_stage(
        tiny_model(), RandomBatches(), stage(steps=12, micro_batch=micro_batch), VECTORS
    )
    for expected, found in zip(whole.losses, low.losses, strict=True):
        assert abs(found.total - expected.total) < 0.03 * expected.total
    mine, theirs = (
        torch.cat([dense(r.delta[name]).flatten() for name in whole.delta]) for r in (low, whole)
    )
    # bf16 resolves 1/256 of a weight: the direction is kept, with noise on each value
    assert torch.cosine_similarity(mine, theirs, dim=0) > 0.9
    assert 0.9 < mine.norm() / theirs.norm() < 1.3


def test_no_steps_change_nothing():
    result = train_stage(tiny_model(), RandomBatches(), stage(steps=0), VECTORS)
    assert all(not dense(change).any() for change in result.delta.values())


class Stopping(NoCallback):
    """Stops a training after some steps."""

    def __init__(self, after):
        self.after = after

    def __call__(self, loss, training):
        if loss.step + 1 == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("micro_batch", "schedule", "warmup"),
    [(0, "constant", 0), (2, "constant", 0), (0, "constant", 4), (2, "cosine", 0)],
)
def test_resumed_it_ends_in_the_same_bytes(tmp_path, micro_batch, schedule, warmup):
    config = stage(steps=5, micro_batch=micro_batch)
    course = replace(config.optimizer, schedule=schedule, warmup_steps=warmup)
    config = config.with_(optimizer=course)

    def train(folder, observer=None):
        with Run(tmp_path / folder, {"of": "a test"}, every=2) as run:
            return train_stage(tiny_model(), RandomBatches(), config, VECTORS, observer, run)

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("stopped", Stopping(3))
    resumed = train("stopped")
    assert resumed.losses == whole.losses
    assert all(torch.equal(resumed.delta[name], change) for name, change in whole.delta.items())


def test_out_of_memory_halves_the_micro_batch_before_anything_is_updated():
    backend = tiny_model()
    plain = backend.denoise

    def small(z_t, t, context):
        if len(t) > 2:
            raise torch.OutOfMemoryError("simulated")
        return plain(z_t, t, context)

    backend.denoise = small
    survived = train_stage(backend, RandomBatches(), stage(), VECTORS)
    asked = train_stage(tiny_model(), RandomBatches(), stage(micro_batch=2), VECTORS)
    assert survived.losses == asked.losses
    assert all(torch.equal(survived.delta[name], change) for name, change in asked.delta.items())


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_trial_before_an_update_needs_all_that_the_update_will(parts):
    model = network().bfloat16()
    held = [p.data for p in model.parameters()]
    before = [value.clone() for value in held]
    x = torch.randn(6, 8).bfloat16()
    with AdamWInBackward(list(model.parameters()), seed=0, **CONSTANTS) as optimizer:
        update = UpdateInBackward(optimizer)

        def backward():
            for number, part in enumerate(x.chunk(parts), start=1):
                update.backward(model(part).float().square().sum(), number == parts, lambda: None)

        with Ledger(held) as ledger:
            update.prepare(6 // parts, backward)
            trial, ledger.peak = ledger.peak, ledger.live
            assert all(map(torch.equal, before, held)), "it changed something"
            backward()
    assert ledger.peak <= trial
    assert not any(map(torch.equal, before, held))


def test_the_weights_become_fp32_in_the_place_of_the_means():
    training = training_of(tiny_model(), stage(), VECTORS)
    with Ledger(training.trainable) as ledger:
        with training:
            training.step(0, random_batch(4))
            before = ledger.peak = ledger.live
    assert ledger.peak <= before


def test_a_nan_is_not_learned():
    class Poisoned:
        def __getitem__(self, step):
            batch = random_batch(4, seed=step)
            if step == 2:
                batch.noise[0, 0, 0, 0] = float("nan")
            return batch

    seen = []

    class Keep(NoCallback):
        def __call__(self, loss, training):
            seen[:] = [p.detach().clone() for p in training.trainable]

    backend = tiny_model()
    with pytest.raises(Exception, match="step 3: the denoising loss is nan"):
        train_stage(backend, Poisoned(), stage(), VECTORS, Keep())
    now = [p.detach() for p in backend.unet.parameters()]
    assert all(torch.equal(a.float(), b) for a, b in zip(seen, now, strict=True))


@pytest.mark.parametrize("number", [1, 2])
def test_stages_1_and_2_stay_as_exact_as_bf16_is(number):
    low = train_stage(tiny_model(), RandomBatches(), stage(number=number), VECTORS)
    plain = train_stage(
        tiny_model(),
        RandomBatches(),
        stage(number=number, low_memory=False, gradient_checkpointing="full"),
        VECTORS,
    )
    assert low.losses == plain.losses


def test_with_a_lora_the_base_is_kept_in_bf16():
    config = stage(lora_rank=4)
    with training_of(tiny_model(), config, VECTORS) as training:
        assert not isinstance(training.optimizer, AdamWInBackward)
        kept = {p.dtype for p in training.model.unet.parameters() if p.ndim >= 2}
        assert kept == {torch.bfloat16, torch.float32}  # base, factors
        assert training.step(0, random_batch(4)).read().total > 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"precision": "fp32"}, "precision"),
        ({"ema_decay": 0.9}, "ema_decay"),
    ],
)
def test_what_does_not_go_with_it_is_refused_with_the_remedy(changes, named):
    with pytest.raises(ValueError, match=named):
        stage(**changes)


def test_its_own_adamw_takes_no_other_optimizer_and_no_clipping():
    for optimizer in (
        OptimizerConfig(learning_rate=1.0, name="Prodigy"),
        OptimizerConfig(learning_rate=1e-3, clip_norm=1.0),
    ):
        with pytest.raises(ValueError, match="low_memory has its own AdamW"):
            stage().with_(optimizer=optimizer)


def test_cancel_inside_an_update_waits_until_it_is_whole():
    training = training_of(tiny_model(), stage(gradient_checkpointing="full"), VECTORS)
    import comfy.model_management as management

    with training:
        training.step(0, random_batch(4))
        backward = training.update.backward

        def cancelled(loss, last, check):
            loss.register_hook(lambda _: management.interrupt_current_processing())
            backward(loss, last, check)

        training.update.backward = cancelled
        try:
            training.step(1, random_batch(4))
            assert training.consistent and management.processing_interrupted()
            with pytest.raises(management.InterruptProcessingException):
                training.step(2, random_batch(4))
            assert training.consistent
        finally:
            management.interrupt_current_processing(False)
