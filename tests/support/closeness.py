"""Closeness that follows from the size of the values, and not from one machine's last bits."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_near(found: Tensor, expected: Tensor, relative: float) -> None:
    """Every value within `relative` of its own, or of the largest: sums that cancel keep the
    roundings of what they are sums of."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=relative, atol=relative * scale)
