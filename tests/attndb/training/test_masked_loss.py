"""Masks in the loss: what is not the subject counts as little as asked, in whatever parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.prior import gradient_of, stage
from support.slow_loss import slow_denoising, slow_regularization

from attndreambooth.attndb.attention.column_statistics import column_statistics
from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.mask import with_masks
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.attndb.data.photo_file import photos_from_arrays
from attndreambooth.devkit.tiny_model import prompt_of, random_batch, tiny_model

SIDE = 64


def photos_with_masks():
    """Five photos, and masks of discs of several sizes with soft edges."""
    random = np.random.default_rng(4)
    pictures = list(random.random((5, SIDE, SIDE, 3)))
    y, x = np.mgrid[:SIDE, :SIDE]
    far = [np.hypot(y - random.integers(20, 44), x - random.integers(20, 44)) for _ in pictures]
    masks = [
        np.clip((radius - d) / 6, 0, 1) for radius, d in zip((8, 14, 20, 26, 40), far, strict=True)
    ]
    return pictures, masks


def encode(pixels):
    blocks = torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2), 8)
    return torch.cat([blocks, blocks.mean(dim=1, keepdim=True)], dim=1)


def batch_of(background=0.25, *, masked=True, step=0, **data):
    pictures, masks = photos_with_masks()
    photos = photos_from_arrays(pictures)
    dataset = ConceptDataset(
        with_masks(photos, masks) if masked else photos, "doll", "<x>", background=background
    )
    config = stage(2, batch_size=6, data=DataConfig(resolution=SIDE, **data))
    return PhotoBatches(dataset, [prompt_of()], config, 1000, encode)[step]


def test_a_mask_changes_what_counts_and_nothing_that_is_drawn():
    plain, masked = batch_of(masked=False), batch_of()
    for name in ("latents", "noise", "timesteps"):
        assert torch.equal(getattr(plain, name), getattr(masked, name))
    assert plain.subject is None
    assert torch.equal(masked.mask, plain.mask * (0.25 + 0.75 * masked.subject))
    assert torch.equal(batch_of(1.0).mask, plain.mask)
    bare = batch_of(0.0, mask_fill=False)
    assert torch.equal(bare.mask, bare.subject)
    assert 0.02 < float(bare.mask.mean()) < 0.9


def test_a_latent_pixel_counts_as_the_share_of_subject_in_its_pixels():
    _, masks = photos_with_masks()
    batch = batch_of(0.0, augmentation="none")
    slow = []
    for mask in masks:
        levels = [[round(255 * float(v)) / 255 for v in row] for row in mask]
        cells = [
            [
                sum(levels[8 * i + a][8 * j + b] for a in range(8) for b in range(8)) / 64
                for j in range(8)
            ]
            for i in range(8)
        ]
        slow.append(torch.tensor(cells))
    for found in batch.mask[:, 0]:
        assert min(float((found - cells).abs().max()) for cells in slow) < 1e-6


@pytest.mark.parametrize("background", [0.0, 0.25])
def test_the_masked_loss_is_the_weighted_mean_and_parts_of_one_add_up_to_it(background):
    batch = batch_of(background)
    whole, loss = gradient_of(2, batch)
    with torch.no_grad():
        slow = slow_denoising(tiny_model(), batch, 0.0)
    assert loss.shares["denoising"] == pytest.approx(slow.item(), rel=1e-5)
    parts, same = gradient_of(2, batch, micro_batch=1)
    assert same.shares["denoising"] == pytest.approx(loss.shares["denoising"], rel=1e-5)
    one = torch.cat([g.flatten() for g in whole.values()])
    other = torch.cat([parts[name].flatten() for name in whole])
    rounding = torch.finfo(torch.float32).eps * one.numel() ** 0.5
    assert float((one - other).norm() / one.norm()) < 10 * rounding


def test_what_lies_outside_of_a_mask_has_no_gradient():
    batch = batch_of(0.0, augmentation="none")
    inside = batch.mask > 0
    prediction = torch.randn(batch.latents.shape, requires_grad=True)
    from attndreambooth.attndb.losses.denoising import denoising_loss

    denoising_loss(prediction, batch.noise, batch.mask).backward()
    assert (prediction.grad[~inside.expand_as(prediction)] == 0).all()
    assert (prediction.grad[inside.expand_as(prediction)] != 0).any()


# ---- the regulariser inside the mask


def test_weighted_statistics_are_those_of_the_values_that_count():
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(3, n, 8, generator=generator).requires_grad_() for n in (9, 7))
    columns = torch.tensor([[1, 4], [2, 3], [5, 6]])
    weights = (torch.rand(3, 9, generator=generator) > 0.4).float()
    found = column_statistics(q, k, columns, 2, weights)
    slow_mean, slow_variance = [], []
    for i in range(3):
        heads = [q[i][:, h] @ k[i][:, h].T / 2.0 for h in torch.arange(8).chunk(2)]
        values = torch.cat([a.softmax(dim=1)[weights[i] == 1][:, columns[i]] for a in heads])
        slow_mean.append(values.mean(dim=0))
        slow_variance.append(values.var(dim=0))
    torch.testing.assert_close(found.mean, torch.stack(slow_mean))
    torch.testing.assert_close(found.variance, torch.stack(slow_variance))
    ours = torch.autograd.grad((found.mean + 3 * found.variance).square().sum(), (q, k))
    slow = torch.stack(slow_mean) + 3 * torch.stack(slow_variance)
    for one, other in zip(ours, torch.autograd.grad(slow.square().sum(), (q, k)), strict=True):
        torch.testing.assert_close(one, other)


def test_equal_weights_in_any_unit_are_no_weights():
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(2, n, 8, generator=generator) for n in (9, 7))
    columns = torch.tensor([[1, 4], [2, 3]])
    plain = column_statistics(q, k, columns, 2)
    for unit in (1.0, 1e-3):
        weighted = column_statistics(q, k, columns, 2, torch.full((2, 9), unit))
        for one, other in zip(weighted, plain, strict=True):
            torch.testing.assert_close(one, other)


def test_a_sample_without_subject_ties_nothing():
    q, k = (torch.randn(1, n, 8).requires_grad_() for n in (9, 7))
    found = column_statistics(q, k, torch.tensor([[1, 4]]), 2, torch.zeros(1, 9))
    assert not found.mean.any() and not found.variance.any()
    (found.mean.sum() + found.variance.sum()).backward()
    assert not q.grad.any() and not k.grad.any()


def test_inside_the_mask_the_regulariser_counts_the_subject_s_attention_alone():
    subject = torch.zeros(3, 1, 8, 8)
    for sample, (rows, columns) in enumerate(((4, 4), (8, 4), (4, 8))):
        subject[sample, :, :rows, :columns] = 1
    batch = replace(random_batch(3), subject=subject)
    inside = replace(stage(2).regularization, inside_mask=True)
    found = {}
    for name, weights in (("all", stage(2).regularization), ("inside", inside)):
        _, loss = gradient_of(2, batch, regularization=weights)
        with torch.no_grad():
            slow = slow_regularization(tiny_model(), batch, weights)
        assert loss.shares["attention_map"] == pytest.approx(slow.item(), rel=1e-4)
        _, parts = gradient_of(2, batch, regularization=weights, micro_batch=1)
        assert parts.shares["attention_map"] == pytest.approx(
            loss.shares["attention_map"], rel=1e-5
        )
        found[name] = loss.shares["attention_map"]
    assert found["inside"] != pytest.approx(found["all"], rel=0.05)


def test_settings_of_before_are_recorded_as_before():
    assert "inside_mask" not in stage(2).as_dict()["regularization"]
    inside = stage(2, regularization=replace(stage(2).regularization, inside_mask=True))
    assert inside.as_dict()["regularization"]["inside_mask"] is True
