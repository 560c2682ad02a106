"""Custom Diffusion: keys and values of cross-attention, and a word (Kumari et al. 2023)."""

from __future__ import annotations

from .concept_method import ConceptMethod


class CustomDiffusion(ConceptMethod):
    """What the text says to the image (to_k and to_v of every attn2) learns the subject together
    with the embedding of a word in front of the category, which begins as a rare one; prior samples
    keep the category (sections 3.1 and 3.2)."""
