"""Strength of the cross-attention map regulariser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from .choices import LayerChoice, require, require_choice


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """Strength of the cross-attention map regulariser (paper, section 4.2)."""

    mean_weight: float = 2.0
    """lambda_mu: weight of the squared difference of the two columns' means. 0 leaves it out."""
    variance_weight: float = 5.0
    """lambda_sigma: weight of the squared difference of the two columns' variances."""
    layers: LayerChoice = "all"
    """Which cross-attention layers are tied. The loss is the mean over the chosen layers."""

    inside_mask: bool = False
    """Whether means and variances are over the subject's pixels alone, where masks say which they
    are. The paper's are over all pixels."""

    def __post_init__(self) -> None:
        require(self.mean_weight >= 0, "mean_weight", self.mean_weight, "use 0 or more")
        require(self.variance_weight >= 0, "variance_weight", self.variance_weight, "use >= 0")
        require_choice("layers", self.layers, get_args(LayerChoice))

    @property
    def active(self) -> bool:
        """Whether the regulariser adds anything to the loss."""
        return self.mean_weight > 0 or self.variance_weight > 0

    def times(self, strength: float) -> Regularization:
        """The same with both weights times this: 2 ties twice as strongly."""
        require(strength >= 0, "strength", strength, "use 0 or more")
        mean, variance = strength * self.mean_weight, strength * self.variance_weight
        return replace(self, mean_weight=mean, variance_weight=variance)
