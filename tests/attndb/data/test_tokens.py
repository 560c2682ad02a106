"""The placeholder and the category word are found where the prompt has them."""

from __future__ import annotations

import pytest

from attndreambooth.attndb.data.tokens import CategoryWord, TokenizedPrompt, locate

START, END = 49406, 49407


def prompt(*middle):
    """A chunk of 77 around these tokens; None is a placeholder vector."""
    return [START, *middle, *[END] * (76 - len(middle))]


STUFFED_ANIMAL = ((9, 8), (7, 6))
"""Two words of two sub-tokens."""


@pytest.mark.parametrize(
    ("category_token", "offset", "initial"), [("last word", 3, (7, 6)), ("first token", 0, (9,))]
)
def test_a_category_of_several_tokens_is_tied_as_asked(category_token, offset, initial):
    category = CategoryWord("stuffed animal", STUFFED_ANIMAL, category_token)
    assert category.ids == (9, 8, 7, 6)
    assert (category.tied_offset, category.initial_ids) == (offset, initial)
    found = locate("text", prompt(1, 2, None, 9, 8, 7, 6, 3), category)
    assert found.placeholder == (3,)
    assert found.columns == (3, 4 + offset)


def test_both_ties_agree_on_a_category_of_one_token():
    for category_token in ("last word", "first token"):
        category = CategoryWord("dog", ((5,),), category_token)
        assert (category.tied_offset, category.initial_ids) == (0, (5,))


def test_several_vectors_come_before_the_category():
    found = locate("text", prompt(1, None, None, None, 5), CategoryWord("dog", ((5,),)))
    assert found.columns == (2, 3, 4, 5)


def test_the_category_right_after_the_placeholder_wins_over_an_earlier_one():
    found = locate("dog, a <x> dog", prompt(5, 1, None, 5, 5), CategoryWord("dog", ((5,),)))
    assert found.category == 4


def test_a_category_before_the_placeholder_is_found_too():
    found = locate("a dog called <x>", prompt(1, 5, 2, None), CategoryWord("dog", ((5,),)))
    assert found.columns == (4, 2)


def test_a_part_of_the_category_does_not_count():
    with pytest.raises(ValueError, match=r"category 'stuffed animal' is not in .*'a <x> animal'"):
        locate(
            "a <x> animal", prompt(1, None, 7, 6), CategoryWord("stuffed animal", STUFFED_ANIMAL)
        )


def test_a_prompt_without_the_placeholder_is_named():
    with pytest.raises(ValueError, match="prompt 'a dog' does not contain the placeholder"):
        locate("a dog", prompt(1, 5), CategoryWord("dog", ((5,),)))


@pytest.mark.parametrize("length", [76, 154])
def test_a_prompt_of_another_length_than_one_chunk_is_refused(length):
    tokens = (prompt(1, None, 5) * 2)[:length]
    with pytest.raises(ValueError, match=rf"takes {length} tokens.*shorten the template"):
        locate("a <x> dog", tokens, CategoryWord("dog", ((5,),)))


def test_an_empty_category_and_an_unknown_tie_are_refused():
    with pytest.raises(ValueError, match="category is empty"):
        CategoryWord("", ())
    with pytest.raises(ValueError, match="category_tie = 'noun'"):
        CategoryWord("dog", ((5,),), "noun")


def test_a_category_position_outside_the_prompt_is_refused():
    with pytest.raises(ValueError, match="position 9 lies outside"):
        TokenizedPrompt("a <x>", (1, None), 9)
