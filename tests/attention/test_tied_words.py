"""The columns of the two words that the regulariser ties."""

from __future__ import annotations

import pytest

from attndreambooth.attndb.attention.prompt_words import PromptToken, PromptWords
from attndreambooth.attndb.attention.tied_words import tied_columns


def words(*texts: str) -> PromptWords:
    """A prompt whose words these are; `a|b` is a word of two sub-tokens."""
    pieces, column = [], 1
    for text in texts:
        parts = text.split("|")
        for number, part in enumerate(parts, start=1):
            ends = number == len(parts)
            pieces.append(PromptToken(column=column, text=part, ends_word=ends, group=1))
            column += 1
    return PromptWords(" ".join(text.replace("|", "") for text in texts), pieces)


def test_the_category_is_the_word_after_the_token_unless_it_is_named():
    prompt = words("a", "photo", "of", "sks", "red", "dog")
    assert tied_columns(prompt, "sks", "") == (4, 5)
    assert tied_columns(prompt, "sks", "dog") == (4, 6)


def test_a_token_of_many_parts_is_tied_whole_to_the_first_part_of_the_category():
    assert tied_columns(words("s|k|s", "gui|nea", "pig"), "sks", "guinea pig") == (1, 2, 3, 4)


def test_the_category_after_the_token_goes_before_an_earlier_one():
    prompt = words("dog", "and", "sks", "dog", "sks")
    assert tied_columns(prompt, "sks", "dog") == (3, 4)
    assert tied_columns(prompt, "sks#2", "dog") == (5, 1)
    assert tied_columns(prompt, "sks", "dog#1") == (3, 1)


@pytest.mark.parametrize(
    ("token", "category", "reason"),
    [
        ("", "dog", "token is empty"),
        ("ohwx", "dog", "'ohwx' is not in the prompt; its words are: a, sks, dog"),
        ("sks", "cat", "'cat' is not in the prompt"),
        ("sks", "sks", "are the same word"),
        ("dog", "", "no word after 'dog'"),
    ],
)
def test_what_cannot_be_tied_is_said(token, category, reason):
    with pytest.raises(ValueError, match=reason):
        tied_columns(words("a", "sks", "dog"), token, category)
