"""Where the placeholder's vectors and the super-category word sit in a tokenised prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from ..config.choices import CategoryToken, require_choice

CONTEXT_LENGTH = 77
"""Tokens of one CLIP chunk, start and end tokens included."""


@dataclass(frozen=True)
class CategoryWord:
    """The super-category as CLIP sees it, and the part of it the placeholder is tied to."""

    text: str
    """As the user typed it, e.g. `stuffed animal`."""
    words: tuple[tuple[int, ...], ...]
    """Token ids, grouped by word: one group per word, one id per sub-token."""
    category_token: CategoryToken = "last word"  # noqa: S105 (a word, no secret)
    """`last word`: the noun, by its last sub-token, the first place of a causal text encoder that
    has read the whole word. `first token`: the published code's choice."""

    def __post_init__(self) -> None:
        if not any(self.words):
            raise ValueError("category is empty: type the word for what the subject is, e.g. dog")
        require_choice("category_tie", self.category_token, get_args(CategoryToken))

    @property
    def ids(self) -> tuple[int, ...]:
        """All token ids of the category."""
        return tuple(token for word in self.words for token in word)

    @property
    def _by_its_first(self) -> bool:
        return self.category_token == "first token"  # noqa: S105 (as above)

    @property
    def tied_offset(self) -> int:
        """Position, within the category's tokens, of the one whose map the placeholder follows."""
        return 0 if self._by_its_first else len(self.ids) - 1

    @property
    def initial_ids(self) -> tuple[int, ...]:
        """Token ids whose mean embedding the placeholder starts from."""
        return self.ids[:1] if self._by_its_first else self.words[-1]


@dataclass(frozen=True)
class TokenizedText:
    """A prompt of one CLIP chunk; without a placeholder, e.g. that of prior images."""

    text: str
    """The prompt as a person reads it."""
    tokens: tuple[int | None, ...]
    """Ids; None marks a place that a placeholder vector fills, in order."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Attention columns the regulariser compares: none without a placeholder."""
        return ()

    def without_placeholder(self) -> TokenizedText:
        """The same prompt of the plain category, filled up with what fills the end of this one: the
        tokens of the text without the placeholder's word."""
        rest = [token for token in self.tokens if token is not None]
        rest += [rest[-1]] * (len(self.tokens) - len(rest))
        return TokenizedText(f"{self.text}, without the placeholder", tuple(rest))

    def padded(self, end: int, pad: int) -> tuple[int | None, ...]:
        """The tokens where all after the first `end` are `pad`: as another text encoder of the same
        vocabulary is filled up."""
        length = self.tokens.index(end) + 1 if end in self.tokens else len(self.tokens)
        return (*self.tokens[:length], *[pad] * (len(self.tokens) - length))


@dataclass(frozen=True)
class TokenizedPrompt(TokenizedText):
    """A training prompt of one CLIP chunk: token ids, with the placeholder's vectors as None."""

    category: int
    """Position of the category token whose map the placeholder's is tied to."""

    def __post_init__(self) -> None:
        if not self.placeholder:
            raise ValueError(f"prompt {self.text!r} does not contain the placeholder")
        if not 0 <= self.category < len(self.tokens):
            raise ValueError(f"category position {self.category} lies outside {self.text!r}")

    @property
    def placeholder(self) -> tuple[int, ...]:
        """Positions of the placeholder's vectors."""
        return tuple(i for i, token in enumerate(self.tokens) if token is None)

    @property
    def columns(self) -> tuple[int, ...]:
        """Attention columns the regulariser compares: the placeholder's, then the category's."""
        return (*self.placeholder, self.category)


def check_length(text: str, tokens: Sequence[int | None], source: str) -> None:
    """ValueError unless the tokens are one CLIP chunk; `source` names what has to be shortened."""
    if len(tokens) != CONTEXT_LENGTH:
        raise ValueError(
            f"prompt {text!r} takes {len(tokens)} tokens; training prompts have to fit in one "
            f"CLIP chunk of {CONTEXT_LENGTH}: shorten {source}"
        )


def locate(
    text: str,
    tokens: Sequence[int | None],
    category: CategoryWord,
    source: str = "the template",
) -> TokenizedPrompt:
    """Finds the category's tokens in a tokenised training prompt.

    The category is looked for right after the placeholder, where the published prompt has it, and
    then anywhere. ValueError names the prompt when it is not there; `source` names what is to be
    shortened.
    """
    check_length(text, tokens, source)
    places = [i for i, token in enumerate(tokens) if token is None]
    wanted = list(category.ids)
    after = places[-1] + 1 if places else 0
    for start in (*range(after, len(tokens)), *range(after)):
        if list(tokens[start : start + len(wanted)]) == wanted:
            return TokenizedPrompt(text, tuple(tokens), start + category.tied_offset)
    raise ValueError(
        f"the category {category.text!r} is not in the training prompt {text!r}: "
        "write the template so that {} is followed by it, e.g. 'a photo of a {}'"
    )
