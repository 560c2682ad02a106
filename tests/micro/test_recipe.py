"""The training of attndb-micro: its optimiser, its autoencoder, its gate."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attndreambooth.micro.autoencoder import LATENT_CHANNELS, Autoencoder
from attndreambooth.micro.gate import GateRow, gate_table, measure, part_errors, psnr
from attndreambooth.micro.muon import COEFFICIENTS, Muon, orthogonal
from attndreambooth.micro.stock import (
    CODER,
    coder_scene,
    make_scenes,
    to_model_range,
    to_pictures,
)
from attndreambooth.micro.train_autoencoder import (
    CoderConfig,
    CoderTrainer,
    coder_loss,
    save_state,
)
from attndreambooth.micro.world import render


@pytest.fixture(scope="module")
def pictures():
    """24 pictures of the autoencoder's stream."""
    return np.stack([render(s).picture for s in make_scenes(0, CODER, 24, coder_scene)])


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9)])
def test_the_step_is_the_published_polynomial_of_the_singular_values(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, v = torch.linalg.svd(g / g.norm(), full_matrices=False)
    a, b, c = COEFFICIENTS
    for _ in range(4):
        s = a * s + b * s**3 + c * s**5
    assert torch.allclose(orthogonal(g, 4), u @ torch.diag(s) @ v, atol=1e-9)


def test_an_update_is_that_of_pytorchs_muon():
    """Which iterates in bf16: equal to its precision."""
    torch.manual_seed(0)
    mine, theirs = (torch.nn.Parameter(torch.randn(12, 30)) for _ in range(2))
    theirs.data.copy_(mine.data)
    options = {"lr": 0.01, "weight_decay": 0.1, "ns_steps": 5}
    pair = [
        (mine, Muon([mine], **options)),
        (theirs, torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **options)),
    ]
    for _ in range(3):
        g = torch.randn(12, 30)
        for p, optimizer in pair:
            p.grad = g.clone()
            optimizer.step()
    moved = 0.01 * 0.2 * 30**0.5 * 3  # the most that three steps can move a singular direction
    assert (mine - theirs).abs().max() < 2 * torch.finfo(torch.bfloat16).eps * moved


def test_a_convolution_is_updated_as_its_matrix():
    torch.manual_seed(0)
    conv: Any = torch.nn.Conv2d(5, 8, 3)
    conv.to(memory_format=torch.channels_last)
    flat = torch.nn.Parameter(conv.weight.detach().flatten(1).clone())
    g = torch.randn(8, 5, 3, 3)
    conv.weight.grad, flat.grad = g.contiguous(memory_format=torch.channels_last), g.flatten(1)
    for p in (conv.weight, flat):
        Muon([p], lr=0.1).step()
    assert torch.allclose(conv.weight.flatten(1), flat, atol=1e-6)
    with pytest.raises(ValueError, match="no matrix"):
        conv.bias.grad = torch.ones(8)
        Muon([conv.bias]).step()


def test_the_autoencoder_starts_as_the_principal_components(pictures):
    model = Autoencoder()
    x = to_model_range(pictures)
    model.start_from_components(x)
    model.eval()
    patches = F.unfold(x, 8, stride=8).transpose(1, 2).flatten(0, 1).double()
    mean = patches.mean(dim=0)
    _, _, v = torch.linalg.svd(patches - mean, full_matrices=False)
    best = (patches - mean) @ v[:LATENT_CHANNELS].T @ v[:LATENT_CHANNELS] + mean
    with torch.no_grad():
        z = model.encode(x)
        y = F.unfold(model.decode(z), 8, stride=8).transpose(1, 2).flatten(0, 1)
    assert z.shape == (24, LATENT_CHANNELS, 16, 16)
    assert abs(z.square().mean().item() - 1) < 0.02
    ours, ideal = (y.double() - patches).square().mean(), (best - patches).square().mean()
    assert ours < 1.01 * ideal


def test_the_loss_is_its_formula():
    y, x = torch.rand(2, 3, 5, 6), torch.rand(2, 3, 5, 6)
    d = (y - x).numpy().astype(float)
    right = np.abs(d[..., 1:] - d[..., :-1]).mean()
    down = np.abs(d[:, :, 1:] - d[:, :, :-1]).mean()
    expected = np.abs(d).mean() + 2 * (d**2).mean() + 0.5 * (right + down)
    assert abs(coder_loss(y, x, 2.0, 0.5).item() - expected) < 1e-6


def test_a_resumed_autoencoder_is_the_uninterrupted_one(pictures, tmp_path):
    config = CoderConfig(steps=6, batch=2)
    whole = CoderTrainer(config, pictures)
    losses = [whole.step()[0] for _ in range(6)]
    first = CoderTrainer(config, pictures)
    assert [first.step()[0] for _ in range(3)] == losses[:3]
    save_state(first.state(), tmp_path / "coder.pt")
    second = CoderTrainer(config, pictures)
    second.load(torch.load(tmp_path / "coder.pt", weights_only=True))
    assert [second.step()[0] for _ in range(3)] == losses[3:]
    for mine, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_the_encoder_rests_at_the_end(pictures):
    trainer = CoderTrainer(CoderConfig(steps=10, batch=2, freeze=0.0), pictures)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.step()
    changed = {k for k, v in trainer.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(name.startswith(("decoder", "linear_out")) for name in changed)


def test_pictures_survive_the_change_of_range(pictures):
    assert np.array_equal(to_pictures(to_model_range(pictures)), pictures)


def test_the_gate_measures_parts_and_objects(pictures):
    scenes = [render(s) for s in make_scenes(0, CODER, 6, coder_scene)]
    perfect = measure("same", scenes, lambda x: x)
    assert perfect.passed and perfect.parts == 1.0 and perfect.error == 0.0
    dim = measure("darker by 20", scenes, lambda x: (x * 0.8).astype(np.uint8))
    assert not dim.passed and dim.parts < 0.5
    noisy = np.random.default_rng(0).normal(0, 16, (6, *scenes[0].picture.shape))
    rough = measure("noisy", scenes, lambda x: np.clip(x + noisy, 0, 255).astype(np.uint8))
    assert rough.parts > 0.95 and not rough.passed  # right colours, and too rough for the gate
    assert "| noisy | 6 |" in gate_table([rough])
    assert not GateRow("x", 1, 0.94, 1, 40, 40).passed and GateRow("x", 1, 0.95, 1, 40, 29).passed


def test_part_errors_and_psnr_are_their_formulas():
    true = np.full((16, 16, 3), 100, np.uint8)
    drawn = true.copy()
    parts = np.zeros((16, 16), np.uint8)
    parts[:8], parts[8, :3] = 1, 2  # the second part is too small to count
    drawn[:8, :, 0] += 30
    assert part_errors(drawn, true, parts) == {1: 10.0}
    where = parts == 1
    assert abs(psnr(drawn, true, where) - 10 * np.log10(255**2 / 300)) < 1e-9


def test_channels_in_order_give_the_same_pictures_and_keep_their_spread(pictures):
    torch.manual_seed(0)
    model = Autoencoder().eval()
    x = to_model_range(pictures[:8])
    model.start_from_components(x)
    torch.nn.init.normal_(model.decoder[-2].weight, std=0.1)  # starts at zero: would hide an error
    with torch.no_grad():
        z, before = model.encode(x), model.decode(model.encode(x))
        old, columns = model.weights.clone(), model.linear_out.weight.flatten(1).clone()
        model.put_in_order(strongest=1.4, order=0.6)
        again, after = model.encode(x), model.decode(model.encode(x))
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(again, z * (model.weights / old).view(1, -1, 1, 1), rtol=1e-4, atol=1e-5)
    # a slow count: what a channel's spread moves the pixels of a patch by
    seen = [float((columns[:, c] * old[c]).square().sum().sqrt()) for c in range(LATENT_CHANNELS)]
    for c in range(LATENT_CHANNELS):
        assert float(model.weights[c]) == pytest.approx(1.4 * (seen[c] / max(seen)) ** 0.6)
