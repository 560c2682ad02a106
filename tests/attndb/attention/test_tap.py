"""Column statistics equal the explicit softmax; the tap watches and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.closeness import assert_near
from torch import nn
from torch.utils.checkpoint import checkpoint

from attndreambooth.attndb.attention import column_statistics as attention
from attndreambooth.attndb.attention.column_statistics import column_statistics
from attndreambooth.attndb.attention.tap import CrossAttentionTap
from attndreambooth.attndb.models.cross_attention import choose_layers, cross_attention_layers
from attndreambooth.devkit.tiny_model import plain_unet, prompt_of, random_batch, tiny_model
from attndreambooth.devkit.training import context_of, denoised

# B batch, H heads, P pixels, T tokens, D head dim, E = H * D, C columns


def explicit(q_BPE, k_BTE, columns_BC, heads):
    """Mean and variance of the columns by plain loops over samples and columns."""
    means, variances = [], []
    for q_PE, k_TE, columns_C in zip(q_BPE, k_BTE, columns_BC, strict=True):
        width = q_PE.shape[1] // heads
        mean, variance = [], []
        for c in columns_C.tolist():
            values = []
            for h in range(heads):
                part = slice(h * width, (h + 1) * width)
                logits_PT = q_PE[:, part] @ k_TE[:, part].T / width**0.5
                values.append((logits_PT.exp() / logits_PT.exp().sum(dim=1, keepdim=True))[:, c])
            flat = torch.cat(values)
            mu = flat.sum() / len(flat)
            mean.append(mu)
            variance.append(((flat - mu) ** 2).sum() / (len(flat) - 1))
        means.append(torch.stack(mean))
        variances.append(torch.stack(variance))
    return torch.stack(means), torch.stack(variances)


def example(batch=3, pixels=35, tokens=11, heads=4, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q_BPE = 1.5 * torch.randn(batch, pixels, heads * width, generator=generator)
    k_BTE = 1.5 * torch.randn(batch, tokens, heads * width, generator=generator)
    columns_BC = torch.stack(
        [torch.randperm(tokens, generator=generator)[:3] for _ in range(batch)]
    )
    return q_BPE, k_BTE, columns_BC, heads


def gradients(statistics, q, k, weights):
    """Gradients of a fixed random function of mean and variance."""
    mean, variance = statistics
    loss = (mean * weights[0].to(mean)).sum() + (variance * weights[1].to(mean)).sum()
    return torch.autograd.grad(loss, (q, k))


def compare_with_explicit(q, k, columns, heads, tolerance):
    q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
    q64, k64 = q.detach().double().requires_grad_(), k.detach().double().requires_grad_()
    found, truth = column_statistics(q, k, columns, heads), explicit(q64, k64, columns, heads)
    for ours, theirs in zip(found, truth, strict=True):
        assert ours.dtype == torch.float32
        assert_near(ours.double(), theirs, tolerance)
    weights = torch.randn(2, *columns.shape, generator=torch.Generator().manual_seed(7))
    for ours, theirs in zip(
        gradients(found, q, k, weights), gradients(truth, q64, k64, weights), strict=True
    ):
        scale = theirs.abs().max()
        torch.testing.assert_close(
            ours.double() / scale, theirs / scale, rtol=0, atol=max(tolerance, 1e-7)
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_and_gradients_equal_the_explicit_softmax_in_fp64(seed):
    compare_with_explicit(*example(seed=seed), tolerance=2e-5)


def test_very_sharp_attention_stays_exact():
    q, k, columns, heads = example(seed=3)
    compare_with_explicit(4 * q, 4 * k, columns, heads, tolerance=2e-4)


def test_gradients_reach_only_what_asks_for_them():
    q, k, columns, heads = example()
    k.requires_grad_()
    column_statistics(q, k, columns, heads).variance.sum().backward()
    assert q.grad is None
    assert k.grad is not None and k.grad.abs().sum() > 0


def test_a_column_chosen_twice_gets_both_gradients():
    q, k, _, heads = example(batch=1)
    compare_with_explicit(q, k, torch.tensor([[2, 2, 5]]), heads, tolerance=2e-5)


@pytest.mark.parametrize("samples", [1, 2])
def test_chunking_changes_nothing(monkeypatch, samples):
    q, k, columns, heads = example(batch=5)
    q.requires_grad_()
    k.requires_grad_()
    weights = torch.randn(2, *columns.shape, generator=torch.Generator().manual_seed(7))
    whole = column_statistics(q, k, columns, heads)
    whole_gradients = gradients(whole, q, k, weights)
    monkeypatch.setattr(attention, "_CHUNK_VALUES", samples * heads * q.shape[1] * k.shape[1])
    assert len(list(attention._chunks(q, k, heads))) == -(-5 // samples)
    parts = column_statistics(q, k, columns, heads)
    for a, b in zip(whole, parts, strict=True):
        assert_near(a, b, 16 * torch.finfo(a.dtype).eps)
    for a, b in zip(whole_gradients, gradients(parts, q, k, weights), strict=True):
        assert_near(a, b, 16 * torch.finfo(a.dtype).eps)


def saved_by(found: torch.Tensor) -> int:
    """How many tensors wait for its backward pass."""
    node: Any = found.grad_fn
    return len(node.saved_tensors)


@pytest.mark.parametrize("samples", [2, 5])
def test_a_kept_attention_and_one_computed_again_give_the_same_bits(monkeypatch, samples):
    q, k, columns, heads = example(batch=5)
    q.requires_grad_()
    k.requires_grad_()
    weights = torch.randn(2, *columns.shape, generator=torch.Generator().manual_seed(7))
    monkeypatch.setattr(attention, "_CHUNK_VALUES", samples * heads * q.shape[1] * k.shape[1])
    kept = column_statistics(q, k, columns, heads)
    saved = saved_by(kept.mean)
    kept_gradients = gradients(kept, q, k, weights)
    monkeypatch.setattr(attention, "_KEPT_VALUES", 0)
    again = column_statistics(q, k, columns, heads)
    assert saved - saved_by(again.mean) == -(-5 // samples)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))
    assert all(
        torch.equal(a, b)
        for a, b in zip(kept_gradients, gradients(again, q, k, weights), strict=True)
    )


def test_under_bf16_autocast_the_statistics_stay_fp32():
    q, k, columns, heads = example(pixels=64)
    q, k = q.bfloat16().float(), k.bfloat16().float()  # what a bf16 projection hands over
    truth = explicit(q.double(), k.double(), columns, heads)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = column_statistics(q.bfloat16(), k.bfloat16(), columns, heads)
    for ours, theirs in zip(found, truth, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-5, atol=0)


def test_gradients_come_back_in_the_dtype_of_queries_and_keys():
    q, k, columns, heads = example()
    q, k = q.bfloat16().requires_grad_(), k.bfloat16().requires_grad_()
    column_statistics(q, k, columns, heads).mean.sum().backward()
    assert q.grad is not None and q.grad.dtype == torch.bfloat16
    assert k.grad is not None and k.grad.dtype == torch.bfloat16


def test_every_sample_has_its_own_columns():
    q, k, _, heads = example(batch=2)
    q, k = q[:1].repeat(2, 1, 1), k[:1].repeat(2, 1, 1)
    mean, _ = column_statistics(q, k, torch.tensor([[1, 4], [4, 1]]), heads)
    torch.testing.assert_close(mean[0], mean[1].flip(0))
    assert (mean[0, 0] - mean[0, 1]).abs() > 1e-4


# ---- the tap on a U-Net


def watched(backend, batch, layers=None, wrap=None):
    """Statistics of all layers for a forward pass, and gradients of their sum by parameter."""
    tap = CrossAttentionTap(layers or cross_attention_layers(backend.unet))
    columns = torch.tensor([prompt.columns for prompt in batch.prompts])
    context = torch.cat([context_of(backend, p, torch.ones(1, 32) / 8) for p in batch.prompts])
    context = context.detach().requires_grad_()
    z_t = backend.diffusion.add_noise(batch.latents, batch.noise, batch.timesteps)

    def forward(z, c):
        return denoised(backend, z, batch.timesteps, c)

    with tap:
        with tap.watching(columns) as found:
            prediction = wrap(forward, z_t, context) if wrap else forward(z_t, context)
        statistics = dict(found)
        total = prediction.square().mean()
        for mean, variance in statistics.values():
            total = total + 10 * mean.sum() + 100 * variance.sum()
        parameters = [p for p in backend.unet.parameters() if p.requires_grad]
        grads = torch.autograd.grad(total, [context, *parameters])
    return statistics, grads


def test_the_tap_sees_what_the_layers_see():
    backend = tiny_model(levels=2)
    batch = random_batch(2, prompts=[prompt_of(), prompt_of(before=(320,), category=99)])
    seen = {}

    def keep(name):
        return lambda _module, _inputs, out: seen.__setitem__(name, out.detach().double())

    layers = cross_attention_layers(backend.unet)
    handles = [
        getattr(layer.module, part).register_forward_hook(keep((layer.name, part)))
        for layer in layers
        for part in ("to_q", "to_k")
    ]
    statistics, _ = watched(backend, batch)
    for handle in handles:
        handle.remove()
    assert len(layers) == 7
    assert list(statistics) == [layer.name for layer in layers]
    columns = torch.tensor([prompt.columns for prompt in batch.prompts])
    assert columns[0].tolist() != columns[1].tolist()
    for layer in layers:
        q, k = seen[layer.name, "to_q"], seen[layer.name, "to_k"]
        for ours, theirs in zip(
            statistics[layer.name], explicit(q, k, columns, layer.heads), strict=True
        ):
            assert_near(ours.double(), theirs, 2e-5)


def test_the_maps_are_not_flat_in_these_tests():
    statistics, _ = watched(tiny_model(levels=2), random_batch(2))
    for mean, variance in statistics.values():
        assert variance.min() > 1e-6
        assert (mean[:, 0] - mean[:, 1]).abs().max() > 1e-4


def test_gradient_checkpointing_gives_the_same_statistics_and_gradients():
    backend = tiny_model(levels=2)
    backend.unet.requires_grad_(True)
    batch = random_batch(2)
    plain, plain_grads = watched(backend, batch)
    again, again_grads = watched(
        backend, batch, wrap=lambda f, *a: checkpoint(f, *a, use_reentrant=False)
    )
    assert list(plain) == list(again)
    for name in plain:
        for a, b in zip(plain[name], again[name], strict=True):
            assert torch.equal(a, b)
    for a, b in zip(plain_grads, again_grads, strict=True):
        assert_near(a, b, 1e-5)


def test_statistics_do_not_depend_on_the_attention_backend():
    ours = tiny_model(levels=2)
    theirs = tiny_model(levels=2)
    theirs.unet = plain_unet_like(ours.unet)
    batch = random_batch(2)
    for name, found in watched(ours, batch)[0].items():
        other = watched(theirs, batch)[0][name]
        for a, b in zip(found, other, strict=True):
            assert_near(a, b, 1e-5)


def plain_unet_like(unet):
    """The host's U-Net with its own attention function, not the pack's."""
    from attndreambooth.devkit.tiny_model import UNET_CONFIG

    return plain_unet(UNET_CONFIG, weights=unet.state_dict())


def hooks(unet):
    return sum(len(module._forward_hooks) for module in unet.modules())


def test_hooks_are_gone_on_exit_and_after_an_error():
    backend = tiny_model(levels=2)
    layers = cross_attention_layers(backend.unet)
    with CrossAttentionTap(layers):
        assert hooks(backend.unet) == 2 * len(layers)
    assert hooks(backend.unet) == 0
    tap = CrossAttentionTap(layers)
    with pytest.raises(RuntimeError, match="in the middle"), tap:
        with tap.watching(torch.zeros(1, 2, dtype=torch.long)):
            raise RuntimeError("in the middle")
    assert hooks(backend.unet) == 0


def test_a_second_forward_replaces_the_first_ones_statistics():
    backend = tiny_model(levels=2)
    layers = cross_attention_layers(backend.unet)
    batch = random_batch(1)
    context = context_of(backend, batch.prompts[0], torch.ones(1, 32))
    with CrossAttentionTap(layers) as tap, tap.watching(torch.tensor([[5, 6]])) as found:
        denoised(backend, batch.latents, batch.timesteps, context)
        first = {name: value.mean.clone() for name, value in found.items()}
        denoised(backend, batch.noise, batch.timesteps, context)
        assert len(found) == len(layers)
        assert any(not torch.equal(first[name], found[name].mean) for name in first)


def test_regions_of_the_unet_are_told_apart():
    layers = cross_attention_layers(tiny_model(levels=2).unet)
    assert {n: len(choose_layers(layers, n)) for n in ("all", "down", "middle", "up")} == {
        "all": 7,
        "down": 2,
        "middle": 1,
        "up": 4,
    }


def test_a_region_without_layers_is_refused():
    unet = tiny_model(levels=2, transformer_depth_middle=-2).unet
    with pytest.raises(ValueError, match=r"layers = 'middle'.*no cross-attention"):
        choose_layers(cross_attention_layers(unet), "middle")


def test_a_model_without_cross_attention_is_refused():
    with pytest.raises(ValueError, match="no cross-attention layer"):
        cross_attention_layers(nn.Linear(2, 2))
