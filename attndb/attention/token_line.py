"""A training prompt as its tokens, with what each of them is to the training."""

from __future__ import annotations

from collections.abc import Iterable

from ..data.tokens import TokenizedPrompt
from .prompt_words import PromptToken


def token_line(prompt: TokenizedPrompt, pieces: Iterable[PromptToken]) -> str:
    """E.g. `a | photo | of | a | [V] | back + pack (category)`: a `+` between tokens of one word.
    The category's token is the one whose attention map the placeholder follows."""
    line, joint = "", ""
    for piece in pieces:
        shown = "[V]" if piece.column in prompt.placeholder else piece.text or "..."
        if piece.column == prompt.category:
            shown += " (category)"
        line += joint + shown
        joint = " | " if piece.ends_word else " + "
    return line
