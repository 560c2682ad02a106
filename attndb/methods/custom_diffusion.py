"""Custom Diffusion: keys and values of cross-attention, and a word (Kumari et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.stage import StageConfig
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .concept_learner import ConceptLearner


class CustomDiffusion:
    """What the text says to the image (to_k and to_v of every attn2) learns the subject together
    with the embedding of a word in front of the category, which begins as a rare one; prior samples
    keep the category (sections 3.1 and 3.2)."""

    loss_names: Sequence[str] = ("denoising", "prior")

    def __init__(self, config: StageConfig) -> None:
        self.config = config

    def attach(self, model: Model, start: Embeddings) -> ConceptLearner:
        """Ready to train from these vectors on."""
        return ConceptLearner(model, self.config, start)
