"""DreamBooth: the whole U-Net, and a rare word that stays as it is (Ruiz et al. 2022)."""

from __future__ import annotations

from .concept_method import ConceptMethod


class DreamBooth(ConceptMethod):
    """The U-Net learns the subject for `<rare word> category`, and with prior samples keeps the
    category (section 3.2). The placeholder holds the rare word's own, untrained embedding."""
