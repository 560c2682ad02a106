"""Bytes that a real training step holds: the truth that estimates are measured by."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor


def step_peak(training: Any, batch: Any, accumulates: bool = False) -> int:
    """The most bytes that one micro-batch, there and back, holds beyond weights and optimiser.

    Counted on real tensors, storage by storage, by the ledger of the trace.
    """
    import torch

    from attndreambooth.attndb.losses.totals import LossTotals
    from attndreambooth.attndb.memory.meta_trace import Ledger

    backend = training.model
    with training:
        ledger = Ledger(held_by(backend) + list(training.trainable))
        with ledger:
            batch = _copied(batch)
            if accumulates:
                for parameter in training.trainable:
                    parameter.grad = torch.zeros_like(parameter)
            shares = training.learner.losses(batch, LossTotals(1.0, 1.0))
            loss: Any = sum(shares.values())
            loss.backward()
        return ledger.peak


def _copied(batch: Any) -> Any:
    """The batch counts as well."""
    values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    clones = {k: v.clone() for k, v in values.items() if isinstance(v, Tensor)}
    return dataclasses.replace(batch, **clones)


def held_by(backend: Any) -> list[Tensor]:
    """Weights of the U-Net and the text encoder."""
    modules = (backend.unet, *backend.text_encoders.values())
    return [tensor for m in modules for tensor in [*m.parameters(), *m.buffers()]]
