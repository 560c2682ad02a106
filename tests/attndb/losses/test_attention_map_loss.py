"""The regulariser is the paper's formula, term by term."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.attention.map_statistics import MapStatistics
from attndreambooth.attndb.losses.attention_map import attention_map_loss


def by_loops(maps_per_layer, placeholder, category, mean_weight, variance_weight):
    """docs/formulas.md, The regulariser, by Python's own sums, from attention maps (B, H, P, T)."""
    total = 0.0
    for maps_BHPT in maps_per_layer:
        for maps_HPT in maps_BHPT.detach():

            def statistics(column, maps_HPT=maps_HPT):
                values = [float(row[column]) for head in maps_HPT for row in head]
                mean = sum(values) / len(values)
                return mean, sum((v - mean) ** 2 for v in values) / (len(values) - 1)

            mean_c, variance_c = statistics(category)
            gaps = []
            for column in placeholder:
                mean_v, variance_v = statistics(column)
                gaps.append(
                    mean_weight * (mean_v - mean_c) ** 2
                    + variance_weight * (variance_v - variance_c) ** 2
                )
            total += sum(gaps) / len(gaps)
    return total / len(maps_per_layer)


def random_maps(layers=3, batch=2, seed=0):
    """Attention maps of layers of different sizes, fp64."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (4 * torch.randn(batch, heads, pixels, 9, generator=generator, dtype=torch.float64))
        .softmax(dim=-1)
        .requires_grad_()
        for heads, pixels in [(2, 16), (4, 9), (8, 4)][:layers]
    ]


def statistics_of(maps_BHPT, columns):
    chosen = maps_BHPT[..., columns].flatten(1, 2)  # (B, N, C)
    return MapStatistics(chosen.mean(dim=1), chosen.var(dim=1))


@pytest.mark.parametrize("placeholder", [[3], [3, 4], [2, 3, 4]])
@pytest.mark.parametrize("weights", [(0.1, 0.0), (0.0, 5.0), (2.0, 5.0), (200.0, 2000.0)])
def test_the_loss_equals_plain_loops(placeholder, weights):
    maps = random_maps()
    ours = attention_map_loss([statistics_of(m, [*placeholder, 5]) for m in maps], *weights)
    assert ours.item() == pytest.approx(by_loops(maps, placeholder, 5, *weights), rel=1e-12)
    assert ours.item() > 0


def test_it_is_summed_over_the_batch():
    maps = random_maps(batch=4)
    whole = attention_map_loss([statistics_of(m, [3, 5]) for m in maps], 2.0, 5.0)
    parts = [
        attention_map_loss([statistics_of(m[i : i + 1], [3, 5]) for m in maps], 2.0, 5.0)
        for i in range(4)
    ]
    assert whole.item() == pytest.approx(sum(p.item() for p in parts), rel=1e-12)


def test_it_is_averaged_over_layers_and_over_vectors():
    layer = statistics_of(random_maps(layers=1)[0], [3, 5])
    once = attention_map_loss([layer], 2.0, 5.0)
    torch.testing.assert_close(attention_map_loss([layer] * 3, 2.0, 5.0), once)
    doubled = MapStatistics(*(value[:, [0, 0, 1]] for value in layer))
    torch.testing.assert_close(attention_map_loss([doubled], 2.0, 5.0), once)


def test_the_gradient_reaches_both_columns_and_no_other():
    (maps,) = random_maps(layers=1)
    attention_map_loss([statistics_of(maps, [3, 5])], 2.0, 5.0).backward()
    reached = maps.grad.abs().sum(dim=(0, 1, 2)) > 0
    assert reached.nonzero().flatten().tolist() == [3, 5]
    torch.testing.assert_close(maps.grad[..., 3].sum(), -maps.grad[..., 5].sum())


def test_equal_columns_cost_nothing():
    (maps,) = random_maps(layers=1)
    assert attention_map_loss([statistics_of(maps, [3, 3])], 2.0, 5.0).item() == 0.0


def test_no_layer_is_an_error():
    with pytest.raises(ValueError, match="at least one layer"):
        attention_map_loss([], 1.0, 1.0)
