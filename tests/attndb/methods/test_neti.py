"""NeTI: mapper, bypass, loss and gradient by independent slow computations."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attndreambooth.attndb.config.compared import published
from attndreambooth.attndb.config.mapper import MapperConfig
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.attndb.models.space_time_mapper import (
    SpaceTimeMapper,
    bypassed,
    nested_dropout,
)
from attndreambooth.devkit.tiny_model import RandomBatches, prompt_of, random_batch, tiny_model
from attndreambooth.devkit.training import parameters_of, train_stage, training_of

ONE = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
PROMPTS = (prompt_of(), prompt_of(before=(320, 1125)), prompt_of(before=(539,)))
WHOLE = MapperConfig(nested_dropout=0.0)


def settings(**changes: Any) -> Any:
    shared = {"steps": 4, "batch_size": 4, "precision": "fp32", "mapper": WHOLE}
    return published("neti").with_(**{**shared, **changes})


def norm(x: list[float], weight: list[float], bias: list[float]) -> list[float]:
    """Layer normalisation of one row, term by term."""
    mean = sum(x) / len(x)
    variance = sum((a - mean) ** 2 for a in x) / len(x)
    scaled = [(a - mean) / math.sqrt(variance + 1e-5) for a in x]
    return [a * w + b for a, w, b in zip(scaled, weight, bias, strict=True)]


def slow_mapper(weights: dict[str, Tensor], t: float, layer: int, kept: int = 128) -> list[float]:
    """M(t, l) of sections 4.1 and 4.3, one number after the other, in Python's fp64."""
    w = {name: value.double().tolist() for name, value in weights.items()}
    angles = [a * t + b * layer for a, b in w["frequencies"]]
    features = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    length = math.sqrt(sum(a * a for a in features))
    x = [a / length for a in features]

    def linear(name: str, x: list[float]) -> list[float]:
        rows = zip(w[f"{name}.weight"], w[f"{name}.bias"], strict=True)
        return [sum(a * b for a, b in zip(row, x, strict=True)) + bias for row, bias in rows]

    x = linear("input", x)
    for name in ("first", "second"):
        x = norm(linear(name, x), w[f"{name}_norm.weight"], w[f"{name}_norm.bias"])
        x = [a if a > 0 else 0.01 * a for a in x]
    x = linear("output", [a if index < kept else 0.0 for index, a in enumerate(x)])
    length = math.sqrt(sum(a * a for a in x))
    return [a / length * w["norm"] for a in x]


def moved(mapper: SpaceTimeMapper) -> SpaceTimeMapper:
    """With weights in which nothing is zero or one."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in mapper.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return mapper


@pytest.mark.parametrize("bypass", [True, False])
def test_the_mapper_is_that_of_its_formula(bypass):
    generator = torch.Generator().manual_seed(1)
    mapper = moved(SpaceTimeMapper(8, 3, bypass=bypass, norm=0.37, generator=generator))
    t, layer = torch.tensor([0, 999, 417]), torch.tensor([0, 2, 1])
    keep = torch.ones(3, 128)
    keep[2, 40:] = 0
    vectors, added = mapper(t, layer, keep)
    ours = vectors if added is None else torch.cat([vectors, added], dim=1)
    theirs = [
        slow_mapper(mapper.tensors(), *place)
        for place in ((0, 0, 128), (999, 2, 128), (417, 1, 40))
    ]
    torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-4, atol=1e-5)
    assert (added is not None) is bypass


def test_its_first_layer_begins_as_the_encodings_of_a_grid():
    mapper = SpaceTimeMapper(8, 3, generator=torch.Generator().manual_seed(1))
    anchors = [(t, layer) for t in range(0, 1000, 100) for layer in range(3)]
    for row, (t, layer) in enumerate(anchors):
        angles = mapper.frequencies @ torch.tensor([float(t), float(layer)])
        features = torch.cat([angles.sin(), angles.cos()])
        torch.testing.assert_close(mapper.input.weight[row], features / features.norm())
    spread = mapper.frequencies.std(dim=0)
    assert 0.02 < spread[0] < 0.04 and 1.8 < spread[1] < 2.2


def test_nested_dropout_cuts_a_layers_samples_off_each_behind_a_place_of_its_own():
    keep = nested_dropout(6, 16, 0.5, torch.Generator().manual_seed(3))
    again = nested_dropout(6, 16, 0.5, torch.Generator().manual_seed(3))
    assert torch.equal(keep, again)
    whole = keep.sum(dim=2) == 128
    assert bool((whole.all(dim=0) | ~whole.any(dim=0)).all())  # by layer, as published
    assert 0 < int(whole[0].sum()) < 16
    assert bool((keep.diff(dim=2) <= 0).all())  # ones, then zeros
    assert bool((nested_dropout(6, 4, 0.0, torch.Generator()) == 1).all())


def slow_states(model: Any, prompt: Any, vector: Tensor, bypass: Tensor | None) -> tuple:
    """Keys' and values' states of one prompt by the text encoder's own parts (section 4.2)."""
    text = model.text_encoders["clip_l"].transformer.text_model
    [place] = prompt.placeholder
    table, positions = text.embeddings.token_embedding.weight, text.embeddings.position_embedding
    rows = [vector if token is None else table[token] for token in prompt.tokens]
    x = torch.stack(rows)[None] + positions.weight
    mask = torch.full((77, 77), -torch.inf).triu(1)
    for layer in text.encoder.layers:
        attention = layer.self_attn
        y = layer.layer_norm1(x)
        q, k, v = (
            project(y).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + mask
        x = x + attention.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        y = layer.mlp.fc1(layer.layer_norm2(x))
        x = x + layer.mlp.fc2(y * torch.sigmoid(1.702 * y))
    keys = text.final_layer_norm(x)
    if bypass is not None:
        h = x[0, place]
        x = x.clone()
        x[0, place] = h + 0.2 * h.norm() * bypass / bypass.norm()
    return keys, text.final_layer_norm(x)


class OwnTexts:
    """A U-Net whose `attn2` are given sources of their own, by wrapping `to_k` and `to_v`."""

    def __init__(self, unet: Any, keys: list[Tensor], values: list[Tensor]) -> None:
        self._unet, self._handles = unet, []
        names = [name for name, _ in unet.named_modules() if name.endswith(".attn2")]
        for name, key, value in zip(names, keys, values, strict=True):
            attention = unet.get_submodule(name)
            for project, source in ((attention.to_k, key), (attention.to_v, value)):
                self._handles.append(
                    project.register_forward_pre_hook(lambda _, __, source=source: (source,))
                )

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        try:
            return self._unet(*args, **kwargs)
        finally:
            for handle in self._handles:
                handle.remove()


@pytest.mark.parametrize("bypass", [True, False])
def test_loss_and_gradient_are_those_of_plain_torch(bypass):
    """The loss from the mapper's formula (in torch here), one text at a time. The public code's
    mapper and bypass were run beside ours once, on the same weights (docs/methods.md)."""
    batch = random_batch(4, seed=2, prompts=PROMPTS, masked=True)
    config = settings(mapper=MapperConfig(bypass=bypass, nested_dropout=0.0))
    with training_of(tiny_model(), config, ONE) as training:
        learner: Any = training.learner
        with torch.no_grad():
            moved(learner._mapper)
        ours = parameters_of(training)
        weights = {n: v.detach().clone().requires_grad_() for n, v in ours.items()}
        fixed = learner._mapper.tensors()
        totals = LossTotals.of(batch)
        loss = training.learner.losses(batch, totals)["denoising"]
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in ours.items()}
        parted = [part() for part in training.learner.parts(batch, totals, 2)]
        torch.testing.assert_close(sum(p["denoising"] for p in parted), loss)

    model = tiny_model()
    layers = len(model.text_attention())
    keys: list[list[Tensor]] = [[] for _ in range(layers)]
    values: list[list[Tensor]] = [[] for _ in range(layers)]
    for t, prompt in zip(batch.timesteps.tolist(), batch.prompts, strict=True):
        for layer in range(layers):
            angles = fixed["frequencies"] @ torch.tensor([float(t), float(layer)])
            x = torch.cat([angles.sin(), angles.cos()])
            x = F.linear(x / x.norm(), weights["input.weight"], weights["input.bias"])
            for name in ("first", "second"):
                x = F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
                scale, shift = weights[f"{name}_norm.weight"], weights[f"{name}_norm.bias"]
                x = F.leaky_relu(F.layer_norm(x, (128,), scale, shift), 0.01)
            x = F.linear(x, weights["output.weight"], weights["output.bias"])
            x = x / x.norm() * ONE.norm()
            key, value = slow_states(model, prompt, x[:32], x[32:] if bypass else None)
            keys[layer].append(key)
            values[layer].append(value)
    unet = OwnTexts(model.unet, *([torch.cat(of) for of in kind] for kind in (keys, values)))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abar = (1 - betas).cumprod(0)[batch.timesteps].float()[:, None, None, None]
    z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
    dummy = torch.zeros(4, 77, 32)
    out = unet(z_t, batch.timesteps, context=dummy, transformer_options={})
    weight = batch.mask.expand_as(out)
    total = ((out - batch.noise) ** 2 * weight).sum() / weight.sum()
    total.backward()
    torch.testing.assert_close(loss, total, rtol=1e-5, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, weights[name].grad, rtol=1e-4, atol=1e-6)


def test_a_bypass_is_a_share_of_the_state_that_it_is_added_to():
    state, bypass = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    added = bypassed(state, bypass) - state
    torch.testing.assert_close(added.norm(dim=1), 0.2 * state.norm(dim=1))
    torch.testing.assert_close(F.cosine_similarity(added, bypass), torch.ones(5))


@pytest.mark.parametrize("level", ["light", "full"])
def test_computing_activations_again_changes_nothing(level):
    results = [
        train_stage(
            tiny_model(), RandomBatches(), settings(gradient_checkpointing=which, steps=2), ONE
        )
        for which in ("off", level)
    ]
    assert results[0].losses == results[1].losses
    for name, value in results[0].modules.items():
        assert torch.equal(value, results[1].modules[name]), name


def test_dropout_does_not_depend_on_the_size_of_parts():
    cut = MapperConfig(nested_dropout=1.0)
    results = [
        train_stage(tiny_model(), RandomBatches(), settings(mapper=cut, micro_batch=size), ONE)
        for size in (0, 1)
    ]
    for one, other in zip(*(result.losses for result in results), strict=True):
        assert one.total == pytest.approx(other.total, rel=1e-4)
    plain = train_stage(tiny_model(), RandomBatches(), settings(), ONE)
    assert plain.losses[0].total != results[0].losses[0].total


def test_dropout_does_not_depend_on_parts_of_a_batch_in_several_shapes():
    """Three samples of one shape and one of another: parts of two leave a short one behind."""
    config = settings(mapper=MapperConfig(nested_dropout=1.0))
    wide = random_batch(1, seed=4, side=12)
    batch = replace(random_batch(3, seed=3), others=(wide,))
    losses = []
    with training_of(tiny_model(), config, ONE) as training, torch.no_grad():
        for size in (4, 2, 1):
            parts = training.learner.parts(batch, LossTotals.of(batch), size)
            losses.append(float(sum(part()["denoising"] for part in parts)))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_what_is_learned_is_the_mapper_and_nothing_else():
    result = train_stage(tiny_model(), RandomBatches(), settings(), ONE)
    assert torch.equal(result.vectors, ONE) and not result.delta
    tensors = {n.removeprefix("neti."): v for n, v in result.modules.items()}
    mapper = SpaceTimeMapper.from_tensors(tensors, 32)
    assert mapper.bypass and mapper.layers == len(tiny_model().text_attention())
    assert float(mapper.norm) == pytest.approx(float(ONE.norm()))
    with pytest.raises(ValueError, match="its mapper cannot be read"):
        SpaceTimeMapper.from_tensors({**tensors, "first.weight": torch.zeros(3, 3)}, 32)


def test_its_word_is_one_token():
    with pytest.raises(ValueError, match="vectors = 2: NeTI's word is one token"):
        published("neti").with_(vectors=2)
    with pytest.raises(ValueError, match=r"nested_dropout = 1\.5: use 0"):
        MapperConfig(nested_dropout=1.5)


def test_a_model_of_two_text_encoders_is_refused():
    from attndreambooth.attndb.methods.registry import method_of

    with pytest.raises(ValueError, match=r"reads 2 text encoders \(clip_l, clip_g\), and NeTI"):
        method_of(settings()).attach(tiny_model(), {"clip_l": ONE, "clip_g": ONE})
