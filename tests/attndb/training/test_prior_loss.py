"""The loss with prior samples is DreamBooth's: against sample by sample, autograd on the whole."""

from __future__ import annotations

import math

import pytest
import torch
from support.prior import VECTORS, WEIGHT, batch_of, gradient_of, stage

from attndreambooth.devkit.tiny_model import tiny_model
from attndreambooth.devkit.training import context_of, train_stage


def slow_denoising(backend, batch, gamma):
    """L_diff sample by sample and in plain numbers where it can be."""
    abars = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abars = torch.cumprod(1 - abars, dim=0)
    mask = torch.ones(len(batch), 1, *batch.latents.shape[2:]) if batch.mask is None else batch.mask
    total = 0.0
    for i in range(len(batch)):
        z0, eps, t = batch.latents[i : i + 1], batch.noise[i : i + 1], batch.timesteps[i : i + 1]
        abar = float(abars[int(t)])
        context = context_of(backend, batch.prompts[i], VECTORS).detach()
        out = backend.unet(
            math.sqrt(abar) * z0 + math.sqrt(1 - abar) * eps,
            t,
            context=context,
            transformer_options={},
        )
        v = backend.diffusion.prediction_type == "v"
        target = math.sqrt(abar) * eps - math.sqrt(1 - abar) * z0 if v else eps
        snr = abar / (1 - abar)
        share = min(snr, gamma) / (snr + 1 if v else snr) if gamma else 1.0
        total = total + share * ((out - target) ** 2 * mask[i]).sum()
    return total / (mask.sum() * batch.latents.shape[1])


def slow_regularization(backend, batch, weights):
    """L_reg from whole attention matrices, taken by hooks of the test's own."""
    seen = {}
    layers = [(n, m) for n, m in backend.unet.named_modules() if n.endswith("attn2")]
    handles = []
    for name, module in layers:
        for part in ("to_q", "to_k"):
            note = lambda _m, _i, out, key=(name, part): seen.__setitem__(key, out)  # noqa: E731
            handles.append(getattr(module, part).register_forward_hook(note))
    try:
        whole_forward(backend, batch)
    finally:
        for handle in handles:
            handle.remove()
    total = 0.0
    for name, module in layers:
        q, k = seen[name, "to_q"], seen[name, "to_k"]
        for i in range(len(batch)):
            columns = []
            for head in torch.arange(q.shape[-1]).chunk(module.heads):
                logits = q[i][:, head] @ k[i][:, head].T / math.sqrt(len(head))
                columns.append(logits.softmax(dim=1)[:, list(batch.prompts[i].columns)])
            new, tied = torch.cat(columns).T
            total = total + weights.mean_weight * (new.mean() - tied.mean()) ** 2
            total = total + weights.variance_weight * (new.var() - tied.var()) ** 2
    return total / len(layers)


def whole_forward(backend, batch):
    """One forward pass over the whole batch."""
    abar = backend.diffusion.alphas_cumprod[batch.timesteps].float()[:, None, None, None]
    context = torch.cat([context_of(backend, p, VECTORS) for p in batch.prompts]).detach()
    z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
    backend.unet(z_t, batch.timesteps, context=context, transformer_options={})


@pytest.mark.parametrize(
    ("number", "kind", "gamma"), [(2, "epsilon", 0.0), (3, "epsilon", 5.0), (3, "v", 5.0)]
)
def test_the_loss_is_the_subjects_plus_the_weighted_priors_plus_the_regulariser(
    number, kind, gamma
):
    batch = batch_of()
    gradient, loss = gradient_of(number, batch, kind, min_snr_gamma=gamma)
    backend = tiny_model(kind)
    trained = {n: p for n, p in backend.unet.named_parameters() if n in gradient}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    own = slow_denoising(backend, batch, gamma)
    prior = WEIGHT * slow_denoising(backend, batch.prior, gamma)
    regularization = slow_regularization(backend, batch, stage(number).regularization)
    total = own + prior + regularization
    wanted = torch.autograd.grad(total, list(trained.values()))
    assert loss.denoising == pytest.approx(own.item(), rel=1e-5)
    assert loss.prior == pytest.approx(prior.item(), rel=1e-5)
    assert loss.regularization == pytest.approx(regularization.item(), rel=1e-4)
    assert loss.total == pytest.approx(total.item(), rel=1e-5)
    ours = torch.cat([gradient[name].flatten() for name in trained])
    slow = torch.cat([g.flatten() for g in wanted])
    assert float((ours - slow).norm() / slow.norm()) < 1e-4
    alone, _ = gradient_of(number, batch_of(prior=0), kind, min_snr_gamma=gamma)
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
