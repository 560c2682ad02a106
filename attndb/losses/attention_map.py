"""The cross-attention map regulariser of AttnDreamBooth (paper, section 4.2;
docs/formulas.md, The regulariser).

Shapes: B batch, V the placeholder's vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..attention.map_statistics import MapStatistics


def attention_map_loss(
    layers: Sequence[MapStatistics], mean_weight: float, variance_weight: float
) -> Tensor:
    """L_reg: ties the placeholder's mean and variance to the super-category's.

    Summed over the batch, averaged over layers, averaged over the placeholder's vectors. Nothing is
    detached. `layers` holds one entry per chosen layer, each (B, V + 1), the category last.
    """
    if not layers:
        raise ValueError("attention_map_loss needs the statistics of at least one layer")
    total = layers[0].mean.new_zeros(())
    for mean_BC, variance_BC in layers:
        mean_gap_BV = mean_BC[:, :-1] - mean_BC[:, -1:]
        variance_gap_BV = variance_BC[:, :-1] - variance_BC[:, -1:]
        gap_BV = mean_weight * mean_gap_BV.square() + variance_weight * variance_gap_BV.square()
        total = total + gap_BV.mean(dim=1).sum()
    return total / len(layers)
