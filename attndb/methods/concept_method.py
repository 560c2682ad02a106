"""ConceptMethod: a method that trains a concept's words and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..config.stage import StageConfig
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .concept_learner import ConceptLearner


class ConceptMethod:
    """What its settings say is trained (config/methods.py), under the denoising loss, with prior
    samples where there are any. Methods whose loss or update has more parts name a learner of their
    own."""

    learner: ClassVar[type[ConceptLearner]] = ConceptLearner
    """What is at work on the model while it trains."""
    loss_names: Sequence[str] = ("denoising", "prior")
    version: int = 1

    def __init__(self, config: StageConfig) -> None:
        self.config = config

    def attach(self, model: Model, start: Embeddings) -> ConceptLearner:
        """Ready to train from these vectors on."""
        return self.learner(model, self.config, start)
