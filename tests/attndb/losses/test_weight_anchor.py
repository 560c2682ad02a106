"""The weight anchor's formula, against sums over single values."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.losses.weight_anchor import squared_distance, squared_low_rank


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7,), (5, 4), (3, 2, 3, 3)])
def test_the_distance_and_its_gradient_are_sums_over_single_values(shape):
    weight, base = drawn(*shape).requires_grad_(), drawn(*shape, seed=1)
    distance = squared_distance(weight, base)
    (2.5 * distance).backward()
    pairs = list(zip(weight.flatten().tolist(), base.flatten().tolist(), strict=True))
    assert distance.item() == pytest.approx(sum((w - b) ** 2 for w, b in pairs), rel=1e-6)
    found = weight.grad.flatten().tolist()
    assert found == pytest.approx([2.5 * 2 * (w - b) for w, b in pairs], rel=1e-5)


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 3, 3)])
@pytest.mark.parametrize("far", [False, True])
def test_a_low_rank_change_is_measured_as_if_it_were_multiplied_out(shape, far):
    outputs, inputs = shape[0], int(torch.tensor(shape[1:]).prod())
    up, down = drawn(outputs, 2).requires_grad_(), drawn(2, inputs, seed=1).requires_grad_()
    gap = drawn(*shape, seed=2) if far else None
    distance = squared_low_rank(up, down, gap)
    ours = torch.autograd.grad(distance, (up, down))
    slow = torch.zeros(())
    for o in range(outputs):
        for i in range(inputs):
            change = sum(up[o, r] * down[r, i] for r in range(2))
            slow = slow + (change + (0.0 if gap is None else gap.flatten(1)[o, i])) ** 2
    assert distance.item() == pytest.approx(slow.item(), rel=1e-5)
    for mine, theirs in zip(ours, torch.autograd.grad(slow, (up, down)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_of_bf16_weights_the_difference_is_taken_in_fp32():
    base = torch.ones(4, dtype=torch.bfloat16)
    weight = (base + 2**-7).requires_grad_()
    distance = squared_distance(weight, base)
    distance.backward()
    assert distance.dtype == torch.float32 and weight.grad.dtype == torch.bfloat16
    assert distance.item() == 4 * 2**-14 and weight.grad.tolist() == [2**-6] * 4
