"""DreamBooth: the whole U-Net, and a rare word that stays as it is (Ruiz et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.stage import StageConfig
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .concept_learner import ConceptLearner


class DreamBooth:
    """The U-Net learns the subject for `<rare word> category`, and with prior samples keeps the
    category (section 3.2). The placeholder holds the rare word's own, untrained embedding."""

    loss_names: Sequence[str] = ("denoising", "prior")

    def __init__(self, config: StageConfig) -> None:
        self.config = config

    def attach(self, model: Model, start: Embeddings) -> ConceptLearner:
        """Ready to train with these vectors."""
        return ConceptLearner(model, self.config, start)
