"""Textual Inversion: a new word's embedding and nothing else (Gal et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from .concept_method import ConceptMethod


class TextualInversion(ConceptMethod):
    """The embedding that lets the frozen model draw the subject, from many short prompts without a
    category: the word has to say everything, and so swallows the rest of a prompt."""

    loss_names: Sequence[str] = ("denoising",)
