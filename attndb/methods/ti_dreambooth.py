"""TI+DB: embedding and U-Net in one optimiser at one rate (Pang et al. 2024, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.stage import StageConfig
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .concept_learner import ConceptLearner


class TIDreamBooth:
    """Textual Inversion and DreamBooth at once. The paper's observation: the embedding hardly moves
    from where it started, for the U-Net learns the subject around it."""

    loss_names: Sequence[str] = ("denoising", "prior")

    def __init__(self, config: StageConfig) -> None:
        self.config = config

    def attach(self, model: Model, start: Embeddings) -> ConceptLearner:
        """Ready to train from these vectors on."""
        return ConceptLearner(model, self.config, start)
