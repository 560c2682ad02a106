"""TI+DB trains embedding and U-Net in one optimiser, beside prior samples too, and resumes."""

from __future__ import annotations

import pytest
import torch
from support.prior import Batches
from support.resumed import same, whole_and_resumed

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.devkit.tiny_model import RandomBatches, random_batch, tiny_model
from attndreambooth.devkit.training import context_of, losses_of, train_stage, training_of

ONE = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))


def joint(steps=3, rate=1e-3, **changes):
    return StageConfig(
        method="ti_dreambooth",
        stage=1,
        steps=steps,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=rate),
        precision=changes.pop("precision", "fp32"),
        **changes,
    )


def test_embedding_and_every_weight_of_the_u_net_change_at_one_rate():
    model = tiny_model()
    with training_of(model, joint(), ONE) as training:
        assert {group["lr"] for group in training.optimizer.param_groups} == {1e-3}
    result = train_stage(tiny_model(), RandomBatches(), joint(), ONE)
    assert not torch.equal(result.vectors, ONE)
    assert set(result.delta) == {name for name, _ in model.unet.named_parameters()}
    assert all(
        dense(delta).any() for name, delta in result.delta.items() if name.endswith("weight")
    )


def test_its_loss_is_the_denoising_loss_of_plain_torch():
    model, batch = tiny_model(), random_batch(3, masked=True)
    with training_of(model, joint(), ONE) as training:
        shares = losses_of(training, batch)
        context = torch.cat([context_of(model, p, ONE) for p in batch.prompts])
        abar = model.diffusion.alphas_cumprod[batch.timesteps].float()[:, None, None, None]
        z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
        out = model.unet(z_t, batch.timesteps, context=context, transformer_options={})
        error = ((out - batch.noise) ** 2 * batch.mask).sum()
        expected = error / (batch.mask.sum() * batch.latents.shape[1])
    assert set(shares) == {"denoising"}
    torch.testing.assert_close(shares["denoising"], expected, rtol=1e-5, atol=0)


def test_no_attention_is_observed():
    model = tiny_model()
    with training_of(model, joint(), ONE):
        assert sum(len(module._forward_hooks) for module in model.unet.modules()) == 0


def test_it_lowers_its_loss():
    class Same:
        def __getitem__(self, step):
            return random_batch(4, seed=3)

    losses = train_stage(tiny_model(), Same(), joint(12, 3e-3), ONE).losses
    assert losses[-1].total < losses[0].total


LOW_MEMORY = {"low_memory": True, "precision": "bf16"}


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}, LOW_MEMORY])
def test_with_prior_samples_the_embedding_learns_as_well(changes):
    result = train_stage(tiny_model(), Batches(), joint(**changes), ONE)
    assert not torch.equal(result.vectors, ONE)
    assert all(loss.shares["prior"] > 0 for loss in result.losses)


@pytest.mark.parametrize("changes", [{}, LOW_MEMORY])
def test_resumed_it_ends_in_the_same_bytes(tmp_path, changes):
    def train(callback, run):
        batches = RandomBatches()
        return train_stage(tiny_model(), batches, joint(5, **changes), ONE, callback, run)

    assert same(*whole_and_resumed(tmp_path, train))
