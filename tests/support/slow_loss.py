"""The losses sample by sample, from whole attention matrices: what the training is held against."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.data.batch import Batch
from attndreambooth.devkit.training import context_of

from .prior import VECTORS


def slow_denoising(backend: Any, batch: Batch, gamma: float) -> Tensor:
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


def slow_regularization(backend: Any, batch: Batch, weights: Regularization) -> Tensor:
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
    total: Any = 0.0
    for name, module in layers:
        q, k = seen[name, "to_q"], seen[name, "to_k"]
        for i in range(len(batch)):
            columns, inside = [], _inside(batch, i, q.shape[1], weights)
            for head in torch.arange(q.shape[-1]).chunk(module.heads):
                logits = q[i][:, head] @ k[i][:, head].T / math.sqrt(len(head))
                columns.append(logits.softmax(dim=1)[inside][:, list(batch.prompts[i].columns)])
            new, tied = torch.cat(columns).T
            total = total + weights.mean_weight * (new.mean() - tied.mean()) ** 2
            total = total + weights.variance_weight * (new.var() - tied.var()) ** 2
    return total / len(layers)


def whole_forward(backend: Any, batch: Batch) -> None:
    """One forward pass over the whole batch."""
    abar = backend.diffusion.alphas_cumprod[batch.timesteps].float()[:, None, None, None]
    context = torch.cat([context_of(backend, p, VECTORS) for p in batch.prompts]).detach()
    z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
    backend.unet(z_t, batch.timesteps, context=context, transformer_options={})


def _inside(batch: Batch, index: int, pixels: int, weights: Regularization) -> Tensor:
    """Which pixels of a layer count, of masks that are all or nothing on every layer."""
    if not weights.inside_mask or batch.subject is None:
        return torch.ones(pixels, dtype=torch.bool)
    step = round(math.sqrt(batch.subject[index].numel() / pixels))
    return (batch.subject[index, 0, ::step, ::step] == 1).flatten()
