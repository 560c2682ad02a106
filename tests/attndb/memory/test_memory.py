"""The memory estimate: what is counted is exact, what is traced equals a real step."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.bytes_held import held_by, step_peak
from support.operations import Operations

from attndreambooth.devkit.tiny_model import (
    CLIP_CONFIG,
    prompt_of,
    random_batch,
    tiny_model,
)
from attndreambooth.devkit.training import initial_vectors

CPU, CARD = torch.device("cpu"), torch.device("cuda")
SIDE = 16
CASES = [
    (1, "fp32", {}),
    (1, "bf16", {}),
    (1, "bf16", {"gradient_checkpointing": "full"}),
    (1, "fp32", {"regularization": None}),
    (2, "fp32", {"gradient_checkpointing": "full"}),
    (1, "bf16", {"gradient_checkpointing": "light"}),
    (2, "fp32", {"gradient_checkpointing": "light"}),
    (2, "bf16", {"micro_batch": 2}),
    (2, "bf16", {"lora_rank": 3}),
    (3, "fp32", {}),
    (3, "bf16", {}),
    (3, "bf16", {"regularization": None}),
    (3, "fp32", {"micro_batch": 1}),
    (3, "bf16", {"micro_batch": 1}),
    (3, "bf16", {"lora_rank": 3, "gradient_checkpointing": "full"}),
    (3, "bf16", {"gradient_checkpointing": "full", "micro_batch": 2}),
    (3, "bf16", {"gradient_checkpointing": "light"}),
    (2, "bf16", {"low_memory": True}),
    (3, "bf16", {"low_memory": True, "gradient_checkpointing": "light"}),
    (3, "bf16", {"low_memory": True}),
    (3, "bf16", {"low_memory": True, "lora_rank": 3}),
]


def config_of(stage, precision="fp32", **changes):
    from attndreambooth.attndb.config.presets import paper
    from attndreambooth.attndb.config.regularization import Regularization

    if "regularization" in changes:
        changes["regularization"] = Regularization(mean_weight=0.0, variance_weight=0.0)
    return paper()[stage - 1].with_(**{"batch_size": 4, "precision": precision, **changes})


def estimator(backend, side=SIDE, device=None):
    from attndreambooth.attndb.memory.estimate import MemoryEstimator

    if device is not None:
        backend.device = device
    shape = (1, CLIP_CONFIG["hidden_size"])
    return MemoryEstimator(
        model=backend, embeddings={"clip_l": shape}, prompts=(prompt_of(),), latent=(4, side, side)
    )


@pytest.fixture
def backend(host):
    return tiny_model(levels=2)


@pytest.mark.parametrize(("stage", "precision", "changes"), CASES)
def test_a_traced_step_holds_what_a_real_one_holds(backend, stage, precision, changes):
    from attndreambooth.attndb.training.adamw_in_backward import update_bytes
    from attndreambooth.devkit.training import training_of

    config = config_of(stage, precision, **changes)
    estimate = estimator(backend)(config)
    training = training_of(backend, config, initial_vectors(backend, (7061,)))
    batch = random_batch(estimate.micro_batch, side=SIDE, masked=True)
    real = step_peak(training, batch, accumulates=estimate.micro_batch < 4)
    extra = update_bytes(training.trainable) if config.optimizer_in_backward else 0
    assert estimate.gradients + estimate.activations - extra == pytest.approx(real, rel=0.001)


def test_gradient_checkpointing_and_smaller_parts_need_less(backend):
    for stage in (1, 3):
        whole, half, one = (
            estimator(backend)(config_of(stage, micro_batch=n)).total for n in (4, 2, 1)
        )
        light, full = (
            estimator(backend)(config_of(stage, gradient_checkpointing=level)).total
            for level in ("light", "full")
        )
        assert one < half < whole
        assert light < whole
        assert full < whole


def test_parts_of_a_batch_need_memory_in_proportion_to_their_samples(backend):
    needed = [
        estimator(backend, side=32)(config_of(2, batch_size=9, micro_batch=n)).total
        for n in (1, 2, 3, 5, 8)
    ]
    per_sample = needed[1] - needed[0]
    assert per_sample > 1e6
    expected = [needed[0] + (n - 1) * per_sample for n in (1, 2, 3, 5, 8)]
    assert needed == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("low_memory", [False, True])
def test_prior_samples_are_a_part_of_the_batch_after_the_others(backend, low_memory):
    from attndreambooth.attndb.memory.meta_trace import Ledger
    from attndreambooth.devkit.training import training_of

    config = config_of(3, "bf16", low_memory=low_memory)
    with_prior = replace(estimator(backend), prior=True)(config)
    without = estimator(backend)(config)
    assert with_prior.total > without.total
    batch = replace(random_batch(4, side=SIDE, masked=True), prior=random_batch(4, side=SIDE))
    with training_of(backend, config, initial_vectors(backend, (7061,))) as training:
        training.step(0, batch)
        states = [t for s in training.optimizer.state.values() for t in s.values()]
        held = [*held_by(backend), *(t for t in states if isinstance(t, torch.Tensor))]
        with Ledger(held) as ledger:
            training.step(1, batch)
    said = with_prior.gradients + with_prior.activations
    assert 0.7 * said < ledger.peak < 1.02 * said
    stage_1 = config_of(1)
    assert replace(estimator(backend), prior=True)(stage_1) == estimator(backend)(stage_1)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_lasts_is_counted_exactly(backend, stage):
    from attndreambooth.attndb.methods.trained_weights import trained_parameters

    estimate = estimator(backend)(config_of(stage, ema_decay=0.9))
    unet = sum(p.numel() * 4 for p in backend.unet.parameters())
    vector = 4 * CLIP_CONFIG["hidden_size"]
    trains = config_of(stage).trains
    trained = sum(p.numel() * 4 for p in trained_parameters(backend.unet, trains).values())
    text = backend.text_encoders["clip_l"]
    assert estimate.text_encoder == sum(
        t.numel() * t.element_size() for t in [*text.parameters(), *text.buffers()]
    )
    assert estimate.weights == unet + (vector if stage == 1 else 0)
    assert estimate.gradients == estimate.average == (trained or vector)
    assert estimate.set_aside == trained
    assert estimate.resident == unet + estimate.text_encoder


def test_frozen_matrices_in_bf16_weigh_half_and_their_originals_wait_on_the_cpu(backend):
    plain = estimator(backend)(config_of(1))
    half = estimator(backend)(config_of(1, "bf16"))
    matrices = sum(p.numel() for p in backend.unet.parameters() if p.ndim >= 2)
    assert plain.weights - half.weights == 2 * matrices
    text = backend.text_encoders["clip_l"]
    linear = [m for m in text.modules() if isinstance(m, torch.nn.Linear)]
    in_text = sum(module.weight.numel() for module in linear)
    assert plain.text_encoder - half.text_encoder == 2 * in_text
    assert (plain.set_aside, half.set_aside) == (0, 4 * (matrices + in_text))
    on_a_card = estimator(backend, device=CARD)(config_of(2, "bf16"))
    assert on_a_card.set_aside == on_a_card.text_encoder == 0
    assert on_a_card.resident == on_a_card.weights + plain.text_encoder  # it encodes in fp32


def test_only_what_is_on_the_device_is_in_place_before_a_training(backend):
    every = [backend.unet, *backend.text_encoders.values()]
    tensors = [t for module in every for t in (*module.parameters(), *module.buffers())]
    assert estimator(backend).in_place == sum(t.numel() * t.element_size() for t in tensors)
    assert estimator(backend, device=CARD).in_place == 0


def test_on_a_mac_what_waits_in_main_memory_takes_the_gpus(backend):
    mac, config = torch.device("mps"), config_of(2, "bf16")
    assert estimator(backend, device=mac).in_place == estimator(backend).in_place
    needed, here, there = (
        replace(estimator(backend, device=device), autoencoder=1 << 20)(config)
        for device in (mac, CPU, CARD)
    )
    assert needed.resident == here.resident > there.weights
    assert needed.text_encoder == here.text_encoder > there.text_encoder == 0
    assert needed.set_aside == here.set_aside > there.set_aside == 0
    assert needed.autoencoder == here.autoencoder < there.autoencoder


def test_an_update_in_the_backward_pass_keeps_bf16_means_and_no_gradients(backend):
    plain = estimator(backend)(config_of(3, "bf16"))
    low = estimator(backend)(config_of(3, "bf16", low_memory=True))
    parts = estimator(backend)(config_of(3, "bf16", low_memory=True, micro_batch=2))
    matrices = [p.numel() for p in backend.unet.parameters() if p.ndim >= 2]
    assert plain.weights - low.weights == 2 * sum(matrices)
    assert plain.optimizer - low.optimizer == 2 * 2 * sum(matrices)
    assert low.gradients == 2 * max(matrices)
    assert parts.gradients == plain.gradients  # the gradients of earlier parts wait in fp32


@pytest.mark.parametrize("size", [4, 2])
def test_a_step_that_updates_as_it_goes_holds_no_more_than_is_estimated(backend, size):
    from attndreambooth.attndb.memory.meta_trace import Ledger
    from attndreambooth.devkit.training import training_of

    config = config_of(3, "bf16", low_memory=True, micro_batch=size)
    estimate = estimator(backend)(config)
    with training_of(backend, config, initial_vectors(backend, (7061,))) as training:
        training.step(0, random_batch(4, side=SIDE, masked=True))  # makes the optimiser's state
        batch = random_batch(4, seed=1, side=SIDE, masked=True)
        states = [t for s in training.optimizer.state.values() for t in s.values()]
        held = [*held_by(backend), *(t for t in states if isinstance(t, torch.Tensor))]
        with Ledger(held) as ledger:
            training.step(1, batch)
    said = estimate.gradients + estimate.activations
    assert 0.6 * said < ledger.peak <= 1.001 * said  # the update rarely meets the peak


def test_a_lora_adds_thin_matrices_and_trains_only_them(backend):
    whole = estimator(backend)(config_of(3))
    thin = estimator(backend)(config_of(3, lora_rank=3))
    rank_3 = sum(
        4 * min(3, p.shape[0], p[0].numel()) * (p.shape[0] + p[0].numel())
        for p in backend.unet.parameters()
        if p.ndim >= 2
    )
    assert thin.gradients == thin.weights - whole.weights == rank_3
    assert thin.set_aside == 0


@pytest.mark.parametrize("name", ["AdamW", "AdamW schedule-free", "Prodigy", "AdamW 8-bit"])
def test_an_optimisers_state_is_as_large_as_what_it_keeps(name):
    from attndreambooth.attndb.config.optimizer import OptimizerConfig
    from attndreambooth.attndb.memory.estimate import optimizer_bytes
    from attndreambooth.attndb.methods.method import ParameterGroup
    from attndreambooth.attndb.training.optimizers import create_optimizer

    package = {"AdamW schedule-free": "schedulefree", "Prodigy": "prodigyopt"}.get(name)
    if name == "AdamW 8-bit":
        pytest.importorskip("bitsandbytes")
    elif package:
        pytest.importorskip(package)
    parameters = [torch.nn.Parameter(torch.ones(*shape)) for shape in ((100, 90), (7,))]
    config = config_of(3, optimizer=OptimizerConfig(learning_rate=1.0, name=name))
    group = ParameterGroup("unet", {str(i): p for i, p in enumerate(parameters)})
    optimizer = create_optimizer([group], config)
    loss: Any = sum(p.square().sum() for p in parameters)
    loss.backward()
    optimizer.step()
    kept = sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and "qmap" not in key  # those are shared
    )
    assert optimizer_bytes(parameters, name) == pytest.approx(kept, rel=0.001)


def test_the_optional_optimisers_are_counted_by_what_their_papers_keep():
    from attndreambooth.attndb.memory.estimate import optimizer_bytes

    parameters = [torch.zeros(100, 90), torch.zeros(7)]
    numbers = 100 * 90 + 7
    assert optimizer_bytes(parameters, "AdamW schedule-free") == 2 * 4 * numbers
    assert optimizer_bytes(parameters, "Prodigy") == 4 * 4 * numbers
    blocks = len(range(0, 9000, 256))
    assert optimizer_bytes(parameters, "AdamW 8-bit") == 2 * (9000 + 4 * blocks) + 2 * 4 * 7


def test_an_estimate_leaves_modules_and_random_states_alone(backend):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    modules = [backend.unet, backend.text_encoders["clip_l"]]

    def state():
        weights = [tensor.clone() for tensor in held_by(backend)]
        facts = [
            (name, module.training, sorted(vars(module)), len(module._forward_hooks))
            for top in modules
            for name, module in top.named_modules()
        ]
        tensors = [(id(t), t.requires_grad, t.grad, t.device) for t in held_by(backend)]
        return facts, tensors, weights

    def generators():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before, drawn = state(), generators()
    estimator(backend)(config_of(1, gradient_checkpointing="full"))
    estimator(backend)(config_of(2, lora_rank=2, micro_batch=1))
    estimator(backend)(config_of(3, ema_decay=0.9, precision="bf16"))
    after = state()
    assert after[:2] == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(before[2], after[2], strict=True))
    assert generators() == drawn


def test_an_estimate_holds_no_memory_to_speak_of(backend):
    real = []

    def tell(func, args, made):
        real.extend(one.untyped_storage().nbytes() for one in made if not one.is_meta)

    for stage in (1, 3):
        with Operations(tell):
            large = estimator(backend, side=64)(config_of(stage, lora_rank=stage - 1))
    assert large.activations > 100e6
    assert sum(real) < 1e6


def test_the_line_says_what_is_needed_and_what_is_free(backend):
    estimate = estimator(backend)(config_of(3, micro_batch=2))
    assert "(2 samples at a time); 512 MB free on cpu" in estimate.describe(512_000_000)
    assert "free" not in estimate.describe()
    full = replace(
        estimate,
        device=torch.device("cuda", 0),
        micro_batch=8,
        weights=3_460_000_000,
        text_encoder=0,
        optimizer=6_900_000_000,
        set_aside=0,
        gradients=3_460_000_000,
        activations=7_500_000_000,
    )
    assert full.describe(23_100_000_000) == (
        "needs about 21.3 GB: weights 3.5, optimiser 6.9, gradients 3.5, activations 7.5 "
        "(8 samples at a time); 23.1 GB free on cuda:0"
    )
    assert full.fits(23_100_000_000) and not full.fits(22_000_000_000)  # a reserve on a card
    on_the_cpu = replace(full, device=CPU)
    enough = on_the_cpu.total + 100_000_000
    assert on_the_cpu.fits(enough) and not on_the_cpu.fits(enough - 1)
