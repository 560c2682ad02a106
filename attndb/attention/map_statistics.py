"""MapStatistics: what the regulariser reads of one cross-attention layer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MapStatistics(NamedTuple):
    """Statistics of the attention columns of one cross-attention layer, over heads and pixels."""

    mean: Tensor
    """(B, C) mean of each column; the super-category's is the last."""
    variance: Tensor
    """(B, C) unbiased variance of each column."""
