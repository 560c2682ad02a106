"""The loss with prior samples is DreamBooth's: against sample by sample, autograd on the whole."""

from __future__ import annotations

import pytest
import torch
from support.prior import VECTORS, WEIGHT, batch_of, gradient_of, stage
from support.slow_loss import slow_denoising, slow_regularization

from attndreambooth.devkit.tiny_model import tiny_model
from attndreambooth.devkit.training import train_stage


@pytest.mark.parametrize(
    ("number", "kind", "gamma"), [(2, "epsilon", 0.0), (3, "epsilon", 5.0), (3, "v", 5.0)]
)
def test_the_loss_is_the_subjects_plus_the_weighted_priors_plus_the_regulariser(
    number, kind, gamma
):
    batch = batch_of()
    gradient, loss = gradient_of(number, batch, kind, 2, min_snr_gamma=gamma)
    backend = tiny_model(kind, levels=2)
    trained = {n: p for n, p in backend.unet.named_parameters() if n in gradient}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    own = slow_denoising(backend, batch, gamma)
    prior = WEIGHT * slow_denoising(backend, batch.prior, gamma)
    regularization = slow_regularization(backend, batch, stage(number).regularization)
    total = own + prior + regularization
    wanted = torch.autograd.grad(total, list(trained.values()))
    assert loss.shares["denoising"] == pytest.approx(own.item(), rel=1e-5)
    assert loss.shares["prior"] == pytest.approx(prior.item(), rel=1e-5)
    assert loss.shares["attention_map"] == pytest.approx(regularization.item(), rel=1e-4)
    assert loss.total == pytest.approx(total.item(), rel=1e-5)
    ours = torch.cat([gradient[name].flatten() for name in trained])
    slow = torch.cat([g.flatten() for g in wanted])
    assert float((ours - slow).norm() / slow.norm()) < 1e-4
    alone, _ = gradient_of(number, batch_of(prior=0), kind, 2, min_snr_gamma=gamma)
    assert float((ours - torch.cat([alone[n].flatten() for n in trained])).norm()) > 0.01 * float(
        slow.norm()
    )


def test_prior_samples_hold_the_model_to_the_class():
    """The loss on the class after a training with prior samples is below that without them."""

    class Same:
        def __init__(self, prior):
            self._prior = prior

        def __getitem__(self, step):
            return batch_of(prior=self._prior, weight=1.0, seed=3)

    held = {}
    for prior in (0, 4):
        backend = tiny_model()
        train_stage(backend, Same(prior), stage(3, steps=12), VECTORS)
        with torch.no_grad():
            held[prior] = float(slow_denoising(backend, batch_of(seed=3).prior, 0.0))
    with torch.no_grad():
        before = float(slow_denoising(tiny_model(), batch_of(seed=3).prior, 0.0))
    assert held[4] < 0.9 * before and held[4] < 0.9 * held[0]
