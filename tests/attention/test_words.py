"""Words of a prompt are found as a person means them."""

from __future__ import annotations

import pytest

from attndreambooth.attndb.attention.prompt_words import PromptToken, PromptWords, split_queries


def pieces(*tokens: str) -> list[PromptToken]:
    """`gui+` continues a word, `*7` is a vector of embedding 7."""
    out = []
    for column, token in enumerate(tokens, start=1):
        if token.startswith("*"):
            out.append(PromptToken(column=column, vector=True, group=int(token[1:])))
        else:
            out.append(
                PromptToken(
                    column=column, text=token.rstrip("+"), ends_word=not token.endswith("+")
                )
            )
    return out


def labels(words) -> list[str]:
    return [word.label for word in words]


def test_sub_tokens_are_one_word():
    words = PromptWords("a guitarist plays", pieces("a", "guitar+", "ist", "plays"))
    assert labels(words.all()) == ["a", "guitarist", "plays"]
    assert words.find("Guitarist")[0].columns == (2, 3)


def test_a_word_cut_by_the_border_of_two_chunks_is_still_one_word():
    cut = [
        PromptToken(column=75, text="guitar", ends_word=False),
        PromptToken(column=78, text="ist"),
    ]
    assert PromptWords("guitarist", cut).find("guitarist")[0].columns == (75, 78)


def test_the_vectors_of_a_placeholder_are_one_word_that_bears_its_name():
    words = PromptWords(
        "a photo of a <my-sloth> sloth, smiling",
        pieces("a", "photo", "of", "a", "*2", "*2", "*2", "sloth", ",", "smiling"),
    )
    assert labels(words.all()) == ["a#1", "photo", "of", "a#2", "<my-sloth>", "sloth", "smiling"]
    for query in ("<my-sloth>", "my-sloth", "embedding:my-sloth", "<MY-SLOTH>"):
        assert words.find(query)[0].columns == (5, 6, 7)


def test_letters_that_grow_in_lower_case_move_no_name():
    tokens = pieces("i\u0307i\u0307", "ab", "*2", "cat")
    words = PromptWords("\u0130\u0130 ab <my-x> cat", tokens)
    assert labels(words.all())[1:] == ["ab", "<my-x>", "cat"]


def test_neighbouring_embeddings_stay_apart_and_keep_their_names():
    words = PromptWords(
        "embedding:one embedding:two, (embedding:three:1.2) end",
        pieces("*1", "*1", "*2", ",", "*3", "end"),
    )
    assert labels(words.all()) == ["one", "two", "three", "end"]
    assert [word.columns for word in words.all()] == [(1, 2), (3,), (5,), (6,)]


def test_a_known_placeholder_may_hold_spaces():
    words = PromptWords("a my odd dog runs", pieces("a", "*2", "runs"), ["my odd dog"])
    assert labels(words.all()) == ["a", "my odd dog", "runs"]


@pytest.mark.parametrize(
    ("prompt", "known"),
    [
        ("a (red:1.2) <my-dog> dog", []),
        ("a (red:1.2) my-dog dog", ["my-dog"]),
        ("a (red:1.2) embedding:my-dog dog", []),
        ("a (red:1.2) (<my-dog>:1.3) dog", ["<my-dog>"]),
    ],
)
def test_the_weight_of_the_word_before_a_placeholder_is_not_its_name(prompt, known):
    words = PromptWords(prompt, pieces("a", "red", "*3", "dog"), known)
    assert words.find("my-dog")[0].columns == (3,)
    assert len(words.all()) == 4


def test_repeated_words_are_numbered_and_each_can_be_asked_for():
    words = PromptWords("a cat and a cat", pieces("a", "cat", "and", "a", "cat"))
    assert labels(words.all()) == ["a#1", "cat#1", "and", "a#2", "cat#2"]
    assert labels(words.find("cat")) == ["cat#1", "cat#2"]
    assert words.find("cat#2")[0].columns == (5,)
    with pytest.raises(ValueError, match="occurs 2 time"):
        words.find("cat#3")


def test_a_phrase_is_one_answer():
    words = PromptWords("the guinea pig's hat", pieces("the", "guinea", "pig", "'s", "hat"))
    assert words.find("guinea pig")[0].columns == (2, 3)
    assert words.find("pig's hat")[0].columns == (3, 4, 5)


def test_a_part_of_a_word_is_not_a_word():
    words = PromptWords("a catalogue", pieces("a", "catalogue"))
    with pytest.raises(ValueError, match="'cat' is not in the prompt; its words are: a, catalogue"):
        words.find("cat")


def test_punctuation_is_left_out_unless_asked_for():
    words = PromptWords("cat , dog", pieces("cat", ".", "dog"))
    assert labels(words.choose([])) == ["cat", "dog"]
    assert words.find(".")[0].columns == (2,)


def test_choosing_twice_gives_each_place_once():
    words = PromptWords("a cat", pieces("a", "cat"))
    assert labels(words.choose(["cat", "cat", "a"])) == ["cat", "a"]


def test_an_empty_prompt_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no word"):
        PromptWords("", []).choose([])


def test_queries_are_parted_by_commas_and_lines():
    assert split_queries(" cat, guinea pig\n<x>,, ") == ["cat", "guinea pig", "<x>"]
