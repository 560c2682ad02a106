"""OFT and COFT: attention's weights are turned, never stretched (Qiu et al. 2023)."""

from __future__ import annotations

from .concept_learner import ConceptLearner
from .concept_method import ConceptMethod
from .orthogonal import OrthogonalWeights


class OFTLearner(ConceptLearner):
    """L_diff through rotated weights."""

    def after_step(self) -> None:
        """COFT's projection."""
        assert isinstance(self._weights, OrthogonalWeights)
        self._weights.project()


class OFT(ConceptMethod):
    """A rotation of every attention layer's inputs, which keeps the angles between its neurons
    (section 3); with a limit on how far it goes it is COFT. What is learned merges exactly into the
    weights."""

    learner = OFTLearner
