"""OFT and COFT: attention's weights are turned, never stretched (Qiu et al. 2023)."""

from __future__ import annotations

from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .concept_learner import ConceptLearner
from .concept_method import ConceptMethod
from .orthogonal import OrthogonalWeights


class OFT(ConceptMethod):
    """A rotation of every attention layer's inputs, which keeps the angles between its neurons
    (section 3); with a limit on how far it goes it is COFT. What is learned merges exactly into the
    weights."""

    def attach(self, model: Model, start: Embeddings) -> OFTLearner:
        """Ready to train with these vectors."""
        return OFTLearner(model, self.config, start)


class OFTLearner(ConceptLearner):
    """L_diff through rotated weights."""

    def after_step(self) -> None:
        """COFT's projection."""
        assert isinstance(self._weights, OrthogonalWeights)
        self._weights.project()
