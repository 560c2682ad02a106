"""RegularizationChoice: what goes over the wire from Attention Map Regularization to a stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..attndb.config.choices import LayerChoice
from ..attndb.config.regularization import Regularization

OWN = -1.0
"""In place of a weight: each stage's own. Any number below 0 means it."""


@dataclass(frozen=True, kw_only=True)
class RegularizationChoice:
    """What the node makes of a stage's own regulariser."""

    mean_weight: float = OWN
    """Instead of the stage's own; below 0: its own."""
    variance_weight: float = OWN
    """Instead of the stage's own; below 0: its own."""
    strength: float = 1.0
    """Factor on both weights, typed or own."""
    layers: LayerChoice = "all"
    """Which layers are tied."""
    inside_mask: bool = False
    """Over the subject's pixels alone."""

    def applied(self, own: Regularization) -> Regularization:
        """The regulariser of a stage that has this one of its own."""
        chosen = replace(
            own,
            mean_weight=own.mean_weight if self.mean_weight < 0 else self.mean_weight,
            variance_weight=(
                own.variance_weight if self.variance_weight < 0 else self.variance_weight
            ),
            layers=self.layers,
            inside_mask=self.inside_mask,
        )
        return chosen.times(self.strength)
