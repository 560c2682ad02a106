"""A captured MODEL, and what its maps should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .wires import Calls, Loaded, Oracle

TEXT = "a photo of a guitarist and two cats"
NEGATIVE = "blurry"


def capture(
    loaded: Loaded,
    text: str = TEXT,
    words: str = "",
    *,
    model: Any = None,
    slices: int = 1,
    heads: bool = False,
) -> tuple[Any, Any, list[Any]]:
    """MODEL, handle and CONDITIONING of the Capture Attention node."""
    from ..nodes.attention import CaptureAttention

    return CaptureAttention.execute(
        loaded.model if model is None else model, loaded.clip, text, words, slices, heads
    ).args


def expected(
    oracle: Oracle, name: str, columns: Sequence[int], rows: Sequence[slice], *, period: int
) -> Tensor:
    """Mean over the calls of the given rows (one slice for each call) of a word's columns."""
    parts = []
    for weights, part in zip(oracle.weights[name], rows, strict=True):
        places = [c for column in columns for c in range(column, weights.shape[-1], period)]
        parts.append(weights[part][..., places].sum(dim=-1))
    return torch.stack(parts).mean(dim=0)


def assert_maps(
    record: Any,
    oracle: Oracle,
    rows: Sequence[slice],
    *,
    first_column: int = 0,
    period: int = 77,
) -> None:
    """Every layer and word of a record is what the oracle saw."""
    assert {key.layer for key in record.sums} == set(oracle.weights)
    for key, found in record.sums.items():
        assert found.count.sum() == len(rows)
        for w, word in enumerate(record.words):
            columns = [first_column + column for column in word.columns]
            wanted = expected(oracle, key.layer, columns, rows, period=period)
            ours = found.total[:, :, w, 0].sum(dim=0) / found.count.sum()
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)


def conditional_rows(calls: Calls, batch: int) -> list[slice]:
    """Rows of the first conditioning in each call."""
    places = [order.index(0) for order in calls.order]
    return [slice(place * batch, (place + 1) * batch) for place in places]
