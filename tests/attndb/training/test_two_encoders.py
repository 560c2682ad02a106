"""A model with two text encoders, as SDXL: both words learn together, and sizes are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.bytes_held import step_peak
from support.resumed import same, whole_and_resumed

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.devkit.tiny_model import (
    DOLL,
    XL_WIDTHS,
    RandomBatches,
    prompt_of,
    random_batch,
    tiny_xl_model,
)
from attndreambooth.devkit.training import train_stage, training_of


def config_of(stage: int = 1, **changes) -> StageConfig:
    settings = {
        "stage": stage,
        "steps": 3,
        "batch_size": 4,
        "optimizer": OptimizerConfig(learning_rate=1e-3),
        "precision": "fp32",
        **changes,
    }
    return StageConfig(**settings)


def start(model, count: int = 1):
    return dict(model.initial_embeddings((DOLL,), count))


def slow_loss(model, batch, vectors) -> torch.Tensor:
    """L_diff, sample by sample: states, pooled text and sizes put together by hand."""
    total, abar = torch.zeros(()), model.diffusion.alphas_cumprod.float()
    for i, prompt in enumerate(batch.prompts):
        states = []
        for name, encoder in model.text_encoders.items():
            rows, ended, tokens = iter(vectors[name]), False, []
            for token in prompt.tokens:
                own = next(rows) if token is None else token
                tokens.append(0 if ended and name == "clip_g" else own)
                ended = ended or token == 49407
            state, pooled = encoder([tokens])
            states.append(state)
        wave = torch.exp(-torch.arange(128) / 128 * torch.log(torch.tensor(10000.0)))
        sizes = [torch.cat([(s * wave).cos(), (s * wave).sin()]) for s in batch.sizes[i]]
        y = torch.cat([pooled, torch.cat(sizes)[None]], dim=-1)
        a = abar[batch.timesteps[i]]
        z = a.sqrt() * batch.latents[i] + (1 - a).sqrt() * batch.noise[i]
        out = model.unet(
            z[None],
            batch.timesteps[i : i + 1],
            context=torch.cat(states, dim=-1),
            y=y,
            transformer_options={},
        )
        total = total + F.mse_loss(out[0], batch.noise[i])
    return total / len(batch)


@pytest.mark.parametrize("count", [1, 2])
def test_the_loss_is_that_of_both_states_the_second_ones_pooled_text_and_the_sizes(host, count):
    model = tiny_xl_model()
    batch = random_batch(3, sized=True, prompts=[prompt_of(vectors=count)])
    vectors = start(model, count)
    with training_of(model, config_of(batch_size=3, steps=1), vectors) as training:
        loss = training.step(0, batch).read()
    assert loss.shares["denoising"] == pytest.approx(
        float(slow_loss(model, batch, vectors)), rel=1e-5
    )
    other = replace(batch, sizes=batch.sizes.flip(1))
    assert float(slow_loss(model, other, vectors)) != pytest.approx(
        loss.shares["denoising"], rel=1e-5
    )


def test_stage_1_moves_the_vectors_of_both_encoders_and_nothing_else(host):
    model = tiny_xl_model()
    before = {n: p.clone() for n, p in model.unet.state_dict().items()}
    vectors = start(model)
    result = train_stage(model, RandomBatches(sized=True), config_of(), vectors)
    assert {n: tuple(v.shape) for n, v in result.embeddings.items()} == {
        name: (1, width) for name, width in XL_WIDTHS.items()
    }
    for name, learned in result.embeddings.items():
        assert (learned - vectors[name]).abs().max() > 1e-3
    assert all(torch.equal(p, before[n]) for n, p in model.unet.state_dict().items())
    assert not result.delta


@pytest.mark.parametrize(("stage", "part"), [(2, ".attn2."), (3, "")])
def test_later_stages_keep_both_vectors(host, stage, part):
    model = tiny_xl_model()
    vectors = start(model)
    result = train_stage(model, RandomBatches(sized=True), config_of(stage), vectors)
    assert all(torch.equal(result.embeddings[name], vectors[name]) for name in vectors)
    assert set(result.delta) == {n for n, _ in model.unet.named_parameters() if part in n}


@pytest.mark.parametrize("changes", [{}, {"low_memory": True, "precision": "bf16"}])
@pytest.mark.parametrize("stage", [1, 3])
def test_resumed_it_ends_in_the_same_bytes(host, tmp_path, stage, changes):
    def train(callback, run):
        model, config = tiny_xl_model(), config_of(stage, steps=4, **changes)
        return train_stage(model, RandomBatches(sized=True), config, start(model), callback, run)

    assert same(*whole_and_resumed(tmp_path, train))


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": "full"}])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(host, changes):
    losses = []
    for size in (0, 1):
        model = tiny_xl_model()
        config = config_of(steps=2, micro_batch=size, **changes)
        result = train_stage(model, RandomBatches(sized=True), config, start(model))
        losses.append([loss.total for loss in result.losses])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [(1, {}), (2, {"lora_rank": 2}), (3, {"gradient_checkpointing": "full", "micro_batch": 1})],
)
def test_a_traced_step_holds_what_a_real_one_holds(host, stage, changes):
    from attndreambooth.attndb.memory.estimate import MemoryEstimator

    model, config = tiny_xl_model(), config_of(stage, **changes)
    vectors = start(model)
    estimate = MemoryEstimator(
        model=model,
        embeddings={name: tuple(v.shape) for name, v in vectors.items()},
        prompts=(prompt_of(),),
        latent=(4, 16, 16),
    )(config)
    training = training_of(model, config, vectors)
    batch = random_batch(estimate.micro_batch, side=16, masked=True, sized=True)
    real = step_peak(training, batch, accumulates=estimate.micro_batch < 4)
    assert estimate.gradients + estimate.activations == pytest.approx(real, rel=0.001)
