"""The compared methods: their losses by plain torch, what they train, and exact resume."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.observer import Told
from support.prior import CLASS, WEIGHT, Batches, batch_of
from torch import Tensor

from attndreambooth.attndb.config.compared import COMPARED, published
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.attndb.training.run import Run
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
    return published(method).with_(
        steps=steps,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=RATE.get(method, 1e-3)),
        precision="fp32",
        **changes,
    )


def plain_loss(model: Any, batch: Any, context: Tensor) -> Tensor:
    """Section 1 of the method by plain torch: the schedule, too, is worked out here."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abar = (1 - betas).cumprod(0)[batch.timesteps].float()[:, None, None, None]
    z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
    out = model.unet(z_t, batch.timesteps, context=context, transformer_options={})
    weight = torch.ones_like(out) if batch.mask is None else batch.mask.expand_as(out)
    return ((out - batch.noise) ** 2 * weight).sum() / weight.sum()


def contexts(model: Any, prompts: Any, vectors: Tensor = ONE) -> Tensor:
    return torch.cat([context_of(model, prompt, vectors) for prompt in prompts])


@pytest.mark.parametrize("method", COMPARED)
def test_loss_and_gradient_are_those_of_plain_torch(method):
    learns_words = method == "textual_inversion"
    batch = random_batch(4, seed=2, prompts=PROMPTS, masked=True)
    if not learns_words:
        batch = dataclasses.replace(batch_of(seed=2), prompts=batch.prompts)
    with training_of(tiny_model(), settings(method), ONE) as training:
        shares: dict[str, Tensor] = {}
        for part in batch.parts(4):
            shares.update(training.learner.losses(part, LossTotals.of(batch)))
        sum(shares.values()).backward()
        ours = {name: p.grad for name, p in parameters_of(training).items()}

    model = tiny_model()
    vectors = ONE.clone().requires_grad_("embedding" in settings(method).trains)
    weights = dict(model.unet.named_parameters())
    if settings(method).trains_denoiser:
        model.unet.requires_grad_(True)
    total = plain_loss(model, batch, contexts(model, batch.prompts, vectors))
    if not learns_words:
        prior = plain_loss(model, batch.prior, contexts(model, [CLASS] * 4))
        total = total + WEIGHT * prior
    total.backward()
    theirs = {"clip_l": vectors.grad, **{name: p.grad for name, p in weights.items()}}
    torch.testing.assert_close(sum(shares.values()), total, rtol=1e-5, atol=0)
    assert ours
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", COMPARED)
def test_it_lowers_the_loss_of_one_batch(method):
    class Same:
        def __getitem__(self, step):
            return random_batch(4, seed=3)

    losses = train_stage(tiny_model(), Same(), settings(method, 12), ONE).losses
    assert losses[-1].total < losses[0].total


@pytest.mark.parametrize("method", COMPARED)
def test_resumed_it_ends_in_the_same_bytes(tmp_path, method):
    def run(folder, callback=None):
        with Run(tmp_path / folder, {"of": "a test"}, every=2) as run:
            source = Batches() if settings(method).trains_denoiser else RandomBatches()
            return train_stage(tiny_model(), source, settings(method), ONE, callback, run)

    @Told
    def stop(loss, _training):
        if loss.step == 2:
            raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop)
    resumed = run("stopped")
    assert resumed.losses == whole.losses
    for kind in ("embeddings", "delta", "modules"):
        one, other = getattr(whole, kind), getattr(resumed, kind)
        assert set(one) == set(other)
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_textual_inversion_trains_the_embedding_alone():
    result = train_stage(tiny_model(), RandomBatches(), settings("textual_inversion"), ONE)
    assert not torch.equal(result.vectors, ONE)
    assert not result.delta


def test_dreambooth_leaves_the_rare_word_as_it_is():
    result = train_stage(tiny_model(), Batches(), settings("dreambooth"), ONE)
    assert torch.equal(result.vectors, ONE)
    assert set(result.delta) == {name for name, _ in tiny_model().unet.named_parameters()}
    assert all(loss.prior > 0 for loss in result.losses)


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
