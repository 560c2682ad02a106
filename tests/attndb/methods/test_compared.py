"""The compared methods: their losses by plain torch, what they train, and exact resume."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.prior import CLASS, WEIGHT, Batches, batch_of
from support.resumed import same, whole_and_resumed
from torch import Tensor

from attndreambooth.attndb.config.compared import COMPARED, published
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.orthogonal import OrthogonalConfig
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.devkit.tiny_model import RandomBatches, prompt_of, random_batch, tiny_model
from attndreambooth.devkit.training import (
    context_of,
    parameters_of,
    train_stage,
    training_of,
)

ONE = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
RATE = {"textual_inversion": 3e-2}
PROMPTS = (prompt_of(), prompt_of(before=(320, 1125)), prompt_of(before=(539,)))


def settings(method: Any, steps: int = 5, **changes: Any) -> Any:
    """The published settings, with a rate at which few steps show something."""
    shared = {
        "steps": steps,
        "batch_size": 4,
        "optimizer": OptimizerConfig(learning_rate=RATE.get(method, 1e-3)),
        "precision": "fp32",
    }
    return published(method).with_(**{**shared, **changes})


def plain_loss(model: Any, batch: Any, context: Tensor) -> Tensor:
    """Section 1 of the method by plain torch: the schedule, too, is worked out here."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abar = (1 - betas).cumprod(0)[batch.timesteps].float()[:, None, None, None]
    z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
    out = model.unet(z_t, batch.timesteps, context=context, transformer_options={})
    weight = torch.ones_like(out) if batch.mask is None else batch.mask.expand_as(out)
    return ((out - batch.noise) ** 2 * weight).sum() / weight.sum()


def loss_of(training: Any, batch: Any) -> Tensor:
    """As a step sums it up."""
    totals = LossTotals.of(batch)
    shares = [training.learner.losses(part, totals) for part in batch.parts(4)]
    return torch.stack([value for part in shares for value in part.values()]).sum()


def contexts(model: Any, prompts: Any, vectors: Tensor = ONE) -> Tensor:
    return torch.cat([context_of(model, prompt, vectors) for prompt in prompts])


LEARNED = {
    "textual_inversion": (),
    "dreambooth": ("",),
    "ti_dreambooth": ("",),
    "custom_diffusion": (".attn2.to_k.", ".attn2.to_v."),
}
"""Parts of the names of the U-Net's weights that learn."""


def _taught_by_all_but_the_first(_layer, _inputs, states):
    """As the published code of Custom Diffusion holds the start token's keys and values."""
    taught = torch.ones_like(states)
    taught[:, 0] = 0.0
    return taught * states + (1 - taught) * states.detach()


@pytest.mark.parametrize("method", LEARNED)
def test_loss_and_gradient_are_those_of_plain_torch(method):
    learns_words = "embedding" in settings(method).trains
    batch = dataclasses.replace(
        batch_of(seed=2), prompts=random_batch(4, prompts=PROMPTS).prompts, prior_weight=WEIGHT
    )
    if not LEARNED[method]:
        batch = dataclasses.replace(batch, prior=None)
    model = tiny_model()
    vectors = ONE.clone().requires_grad_(learns_words)
    theirs = {"clip_l": vectors} if learns_words else {}
    for name, weight in model.unet.named_parameters():
        if any(part in name for part in LEARNED[method]):
            theirs[name] = weight.requires_grad_(True)
    if method == "custom_diffusion":
        for name, layer in model.unet.named_modules():
            if name.endswith((".attn2.to_k", ".attn2.to_v")):
                layer.register_forward_hook(_taught_by_all_but_the_first)
    total = plain_loss(model, batch, contexts(model, batch.prompts, vectors))
    if batch.prior is not None:
        total = total + WEIGHT * plain_loss(model, batch.prior, contexts(model, [CLASS] * 4))
    total.backward()

    with training_of(tiny_model(), settings(method), ONE) as training:
        loss = loss_of(training, batch)
        loss.backward()
        ours = parameters_of(training)
        assert set(ours) == set(theirs)
        torch.testing.assert_close(loss, total, rtol=1e-5, atol=0)
        for name, parameter in ours.items():
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-6)


def test_ofts_loss_gradient_and_merge_are_those_of_its_formula():
    """y = W blkdiag(Q)^T x + b with Q = (I - S)(I + S)^-1, S = (R - R^T) / 2, block by block."""
    batch = random_batch(4, seed=2)
    model = tiny_model()
    turned, generators = {}, {}
    for number, (name, weight) in enumerate(sorted(model.unet.named_parameters())):
        if ".attn" in name and name.endswith(
            ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
        ):
            size = weight.shape[1] // 4
            seed = torch.Generator().manual_seed(number)
            generators[name] = (0.1 * torch.randn(4, size, size, generator=seed)).requires_grad_()
            blocks = []
            for r in generators[name]:
                skew, eye = 0.5 * (r - r.T), torch.eye(size)
                blocks.append((eye - skew) @ torch.inverse(eye + skew))
            turned[name] = weight @ torch.block_diag(*blocks).T
    context = contexts(model, batch.prompts)
    total = plain_loss(_Called(model, turned), batch, context)
    total.backward()

    config = settings("oft", orthogonal=OrthogonalConfig(constraint=0.0))
    with training_of(tiny_model(), config, ONE) as training:
        ours = parameters_of(training)
        assert set(ours) == set(generators)
        with torch.no_grad():
            for name, parameter in ours.items():
                parameter.copy_(generators[name])
        loss = loss_of(training, batch)
        loss.backward()
        torch.testing.assert_close(loss, total, rtol=1e-5, atol=0)
        for name, parameter in ours.items():
            torch.testing.assert_close(parameter.grad, generators[name].grad, rtol=1e-4, atol=1e-6)
        delta = training.learner.learned().delta
    merged = {n: w + delta[n] if n in delta else w for n, w in model.unet.named_parameters()}
    torch.testing.assert_close(merged, {**merged, **turned}, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(plain_loss(_Called(model, merged), batch, context), total)


class _Called:
    """A model whose U-Net is called with other weights."""

    def __init__(self, model: Any, weights: dict[str, Tensor]) -> None:
        self._model, self._weights = model, weights

    def unet(self, *args: Any, **kwargs: Any) -> Tensor:
        return torch.func.functional_call(self._model.unet, self._weights, args, kwargs)


def test_coft_keeps_every_block_in_its_ball_and_oft_does_not():
    config = settings("oft", optimizer=OptimizerConfig(learning_rate=1e-2))
    for constraint in (6e-5, 0.0):
        limited = config.with_(orthogonal=OrthogonalConfig(constraint=constraint))
        with training_of(tiny_model(), limited, ONE) as training:
            for step in range(2):
                training.step(step, random_batch(4, seed=step))
            for generator in parameters_of(training).values():
                size = generator.shape[1]
                limit = 6e-5 * size**2 / 4**0.5
                norms = generator.detach().flatten(1).norm(dim=1)
                assert bool((norms > limit * (1 + 1e-5)).any()) is (constraint == 0.0)


def test_oft_leaves_the_u_net_as_it_was_found():
    model, plain = tiny_model(), tiny_model()
    with training_of(model, settings("oft"), ONE) as training:
        training.step(0, random_batch(4))
    for name, weight in plain.unet.state_dict().items():
        assert torch.equal(model.unet.state_dict()[name], weight), name


def test_oft_takes_no_lora_no_low_memory_and_no_block_count_that_does_not_divide():
    with pytest.raises(ValueError, match="lora_rank = 4: OFT has its own change"):
        settings("oft").with_(lora_rank=4)
    with pytest.raises(ValueError, match="low_memory = True: OFT turns weights in fp32"):
        settings("oft").with_(low_memory=True, precision="auto")
    odd = settings("oft", orthogonal=OrthogonalConfig(blocks=5))
    with pytest.raises(ValueError, match=r"blocks = 5: .* has 32 inputs, which that does not"):
        training_of(tiny_model(), odd, ONE)


@pytest.mark.parametrize("method", COMPARED)
def test_it_lowers_the_loss_of_one_batch(method):
    class Same:
        def __getitem__(self, step):
            return random_batch(4, seed=3)

    losses = train_stage(tiny_model(), Same(), settings(method, 12), ONE).losses
    assert losses[-1].total < losses[0].total


@pytest.mark.parametrize("method", COMPARED)
def test_resumed_it_ends_in_the_same_bytes(tmp_path, method):
    def train(callback, run):
        source = Batches() if settings(method).trains_denoiser else RandomBatches()
        return train_stage(tiny_model(), source, settings(method), ONE, callback, run)

    assert same(*whole_and_resumed(tmp_path, train))


def test_textual_inversion_trains_the_embedding_alone():
    result = train_stage(tiny_model(), RandomBatches(), settings("textual_inversion"), ONE)
    assert not torch.equal(result.vectors, ONE)
    assert not result.delta


def test_dreambooth_leaves_the_rare_word_as_it_is():
    result = train_stage(tiny_model(), Batches(), settings("dreambooth"), ONE)
    assert torch.equal(result.vectors, ONE)
    assert set(result.delta) == {name for name, _ in tiny_model().unet.named_parameters()}
    assert all(loss.shares["prior"] > 0 for loss in result.losses)


def test_no_attention_is_observed():
    for method in COMPARED:
        model = tiny_model()
        with training_of(model, settings(method), ONE):
            assert sum(len(module._forward_hooks) for module in model.unet.modules()) == 0


def test_settings_of_compared_methods_leave_no_mark_on_other_records():
    from attndreambooth.attndb.config.presets import paper

    assert "words" not in paper()[0].as_dict()
    said = published("textual_inversion").as_dict()["words"]
    assert len(said["templates"]) == 27 and said["with_category"] is False


def test_an_initial_word_of_several_vectors_is_refused():
    with pytest.raises(ValueError, match="vectors = 2: the placeholder has a vector for every"):
        published("dreambooth").with_(vectors=2)
