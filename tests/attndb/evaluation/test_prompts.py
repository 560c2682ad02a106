"""Prompts of an evaluation: the sets, what is refused, what a text score reads."""

from __future__ import annotations

import pytest

from attndreambooth.attndb.evaluation.prompts import SETS, context, prompt_lines, spoken, whole


def test_every_set_says_how_many_it_holds_and_is_legal():
    for name, prompts in SETS.items():
        assert f"({len(prompts)})" in name
        assert prompt_lines(prompts) == prompts


def test_lines_of_a_text_or_a_list_are_prompts_each_once():
    text = "# mine\n a {} in the snow \n\na {} on the beach\na {} in the snow\n"
    assert prompt_lines(text) == ("a {} in the snow", "a {} on the beach")
    assert prompt_lines([text, "a {}"]) == ("a {} in the snow", "a {} on the beach", "a {}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a dog in the snow", "prompt 'a dog in the snow' needs {} exactly once"),
        ("a {} and a {}", "needs {} exactly once"),
        (" \n# nothing\n", "prompts is empty: write one in a line, with {}"),
        ("a {} " + "x" * 1000, "has 1005 characters"),
        ("\n".join(f"a {{}} {i}" for i in range(201)), "201 lines, and 200 are the most"),
    ],
)
def test_what_is_no_prompt_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        prompt_lines(text)


def test_the_whole_prompt_keeps_the_category_and_loses_the_placeholder():
    assert whole("a {} in the snow", "guinea pig") == "a guinea pig in the snow"


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a photo of a {} in the snow", "a photo in the snow"),
        ("a {} in Times Square", "in Times Square"),
        ("A {} as a Jedi", "as a Jedi"),
        ("a red {} in the garden", "a red in the garden"),
        ("a {} wearing a costume, complete with cape", "wearing a costume, complete with cape"),
        ("a photo of a {}", "a photo"),
        ("a {}, in the snow.", "in the snow"),
        ("the {}'s hat", "hat"),
        ("{}", ""),
        ("a photo of a ({}:1.2) in the ((snow))", "a photo in the snow"),
    ],
)
def test_the_context_is_what_is_said_beside_the_subject(prompt, left):
    assert context(prompt) == left


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a (red:1.3) dog", "a red dog"),
        ("a ((red)) dog (in (snow:0.5):1.2)", "a red dog in snow"),
        ("a dog \\(red\\)", "a dog (red)"),
        ("a (dog: red)", "a dog: red"),
        ("a) (red:1.3) (", "a) (red:1.3) ("),
        ("a dog, embedding:charm, in the snow", "a dog, in the snow"),
        ("embedding:charm a dog (embedding:more:1.2)", "a dog"),
        ("a dog in the snow,", "a dog in the snow,"),
    ],
)
def test_weights_and_embeddings_steer_the_drawing_and_say_nothing(prompt, said):
    assert spoken(prompt).strip() == said
    assert whole(prompt.replace("dog", "{}"), "dog").strip() == said
