"""StageRequest: one stage, asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ..artifacts.concept import TrainedConcept
from ..config.choices import CategoryToken, require
from ..config.stage import StageConfig
from ..data.dataset import ConceptDataset


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """One stage, asked for."""

    dataset: ConceptDataset
    config: StageConfig
    concept: TrainedConcept | None = None
    """What it goes on from; None: the base model and the untrained embedding of the category."""
    category_token: CategoryToken = "last word"  # noqa: S105 (a word, no secret)
    """Which part of the category the placeholder starts from and is tied to."""
    title: str
    """Named in the log and in messages."""
    checkpoint_every: int = 100
    """Steps between checkpoints; 0: only when it is stopped. Runtime."""
    keep_state: bool = False
    """Keep the last checkpoint of the finished training, so that it goes on when `steps` is raised.
    Takes three times the room of what is trained. Runtime."""
    concepts_every: int = 0
    """Steps between concepts that are kept among the host's models while it trains; 0: none.
    Runtime."""
    concepts_kept: int = 5
    """How many of these stay: the newest. Runtime."""
    low_memory_if_needed: bool = False
    """Turn low_memory on where the stage would not fit without it. What was decided is part of the
    run: it goes on as it began, on whatever machine."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("checkpoint_every", self.checkpoint_every, 0),
            ("checkpoint_concepts", self.concepts_every, 0),
            ("kept_concepts", self.concepts_kept, 1),
        ):
            require(value >= least, name, value, f"use {least} or more")

    @property
    def choices(self) -> list[StageConfig]:
        """The settings that may be trained with, the mildest first."""
        low = self.config.with_low_memory() if self.low_memory_if_needed else None
        return [self.config] if low is None else [self.config, low]
