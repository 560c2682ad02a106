"""Weight changes: whole or of low rank, added, cast, flattened."""

from __future__ import annotations

import torch

from attndreambooth.attndb.artifacts.weight_delta import (
    LowRank,
    add_deltas,
    cast_delta,
    delta_from_tensors,
    delta_tensors,
    dense,
)
from attndreambooth.attndb.methods.low_rank import LowRankParameter


def low_rank(rank: int, shape: tuple[int, ...], seed: int = 0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.Size(shape[1:]).numel()
    up = torch.randn(shape[0], rank, generator=generator)
    return LowRank(up, torch.randn(rank, inputs, generator=generator), shape)


def test_low_ranks_add_up_to_the_sum_of_their_products():
    one, two = low_rank(2, (6, 5, 3, 3), 1), low_rank(3, (6, 5, 3, 3), 2)
    both = add_deltas(one, two)
    assert isinstance(both, LowRank) and both.up.shape[1] == 5
    torch.testing.assert_close(dense(both), dense(one) + dense(two), rtol=1e-5, atol=1e-5)


def test_a_low_rank_and_a_whole_change_become_a_whole_one():
    thin, whole = low_rank(2, (6, 5)), torch.randn(6, 5)
    for total in (add_deltas(thin, whole), add_deltas(whole, thin)):
        assert isinstance(total, torch.Tensor)
        torch.testing.assert_close(total, dense(thin) + whole)


def test_the_first_change_is_kept_as_it_is():
    thin = low_rank(2, (6, 5))
    assert add_deltas(None, thin) is thin


def test_flat_names_bring_every_change_back():
    changes = {"a.weight": low_rank(2, (6, 5, 3, 3)), "b.bias": torch.randn(4)}
    back = delta_from_tensors(delta_tensors(changes))
    assert set(back) == set(changes)
    assert torch.equal(dense(back["a.weight"]), dense(changes["a.weight"]))
    assert back["a.weight"].shape == (6, 5, 3, 3)
    assert torch.equal(back["b.bias"], changes["b.bias"])


def test_cast_keeps_the_kind():
    thin = cast_delta(low_rank(2, (6, 5)), torch.float16)
    assert isinstance(thin, LowRank) and thin.up.dtype == torch.float16
    assert cast_delta(torch.ones(3), torch.float16).dtype == torch.float16


def test_a_new_low_rank_parameter_changes_nothing_until_it_is_trained():
    weight = torch.randn(6, 5, 3, 3)
    parameter = LowRankParameter(weight, 4, torch.Generator().manual_seed(0))
    assert torch.equal(parameter(weight), weight)
    with torch.no_grad():
        parameter.up.fill_(0.5)
    torch.testing.assert_close(parameter(weight) - weight, parameter.delta().dense())
    assert parameter.delta().dense().abs().max() > 0
