"""Textual Inversion: a new word's embedding and nothing else (Gal et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.stage import StageConfig
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .concept_learner import ConceptLearner


class TextualInversion:
    """The embedding that lets the frozen model draw the subject, from many short prompts without a
    category: the word has to say everything, and so swallows the rest of a prompt."""

    loss_names: Sequence[str] = ("denoising",)

    def __init__(self, config: StageConfig) -> None:
        self.config = config

    def attach(self, model: Model, start: Embeddings) -> ConceptLearner:
        """Ready to train from these vectors on."""
        return ConceptLearner(model, self.config, start)
