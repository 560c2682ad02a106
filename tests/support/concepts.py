"""A concept of one vector with a given change of weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.weight_delta import WeightDelta


def concept_with(delta: Mapping[str, WeightDelta], family: str = "SD 1.5") -> TrainedConcept:
    """`<x> dog` of a model of this family."""
    return TrainedConcept(
        placeholder="<x>",
        category="dog",
        text_key="clip_l",
        vectors=torch.ones(1, 8),
        delta=dict(delta),
        base_family=family,
    )
