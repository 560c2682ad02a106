"""LossTotals: what the sums of a whole batch's losses are divided by."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.batch import Batch
from .denoising import counted_values


@dataclass(frozen=True)
class LossTotals:
    """Counted over everything that one optimiser step trains on, wherever its parts are computed:
    parts of a batch, each divided by these, add up to the loss of the batch."""

    values: float
    """Values that the denoising loss of the subject's samples averages over."""
    prior_values: float
    """The same of the prior samples; 0 without any."""
    base_values: float = 0.0
    """Values of the subject's samples, whole, for the distance to the base's prediction."""

    @classmethod
    def of(cls, batch: Batch) -> LossTotals:
        """The totals of one batch and its prior samples."""
        prior = 0.0 if batch.prior is None else float(batch.prior.latents.numel())
        whole = float(sum(one.latents.numel() for one in batch.shapes))
        values = sum(counted_values(one.latents, one.mask) for one in batch.shapes)
        return cls(max(values, 1.0), prior, whole)
