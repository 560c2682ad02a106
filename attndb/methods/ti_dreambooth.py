"""TI+DB: embedding and U-Net in one optimiser at one rate (Pang et al. 2024, section 3)."""

from __future__ import annotations

from .concept_method import ConceptMethod


class TIDreamBooth(ConceptMethod):
    """Textual Inversion and DreamBooth at once. The paper's observation: the embedding hardly moves
    from where it started, for the U-Net learns the subject around it."""
