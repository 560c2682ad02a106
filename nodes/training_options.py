"""TrainingOptions: what goes over the wire from Training Options to a stage."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..attndb.config.stage import StageConfig

_INSTEAD = {"Prodigy": {"learning_rate": 1.0}, "AdamW schedule-free": {"schedule": "constant"}}
"""What an optimiser has instead of a preset's, by field of OptimizerConfig."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What the node changes in a stage's settings."""

    optimizer: dict[str, Any]
    """Fields of OptimizerConfig that are not the published ones."""
    stage: dict[str, Any]
    """Fields of StageConfig that are not the published ones."""
    data: dict[str, Any] = field(default_factory=dict)
    """Fields of DataConfig."""
    low_memory_if_needed: bool = True
    """Whether low_memory is turned on where a stage would not fit without it."""
    keep_state: bool = False
    """Whether a finished training keeps what it needs to go on."""
    concepts_every: int = 0
    """Steps between concepts that are kept while it trains; 0: none."""
    concepts_kept: int = 5
    """How many of them stay."""

    def applied(self, config: StageConfig) -> StageConfig:
        """The settings with these choices made, where the stage has a place for them."""
        optimizer = dataclasses.replace(config.optimizer, **self.optimizer)
        data = dataclasses.replace(config.data, **self.data)
        return config.with_(optimizer=optimizer, data=data, **config.applicable(self.stage))

    def for_preset(self) -> TrainingOptions:
        """The same where nobody can type a rate: a preset's is AdamW's, and so is its course."""
        instead = _INSTEAD.get(self.optimizer.get("name", ""), {})
        return dataclasses.replace(self, optimizer={**instead, **self.optimizer})


NO_OPTIONS = TrainingOptions(optimizer={}, stage={})
"""The published recipe."""
