"""The default placeholder tells subjects apart, and is one that a dataset takes."""

from __future__ import annotations

import pytest

from attndreambooth.attndb.data.dataset import DEFAULT_PLACEHOLDER, check_placeholder
from attndreambooth.attndb.data.placeholder import LONGEST, default_placeholder


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("sloth", "<my-sloth>"),
        ("my-sloth", "<my-sloth>"),
        ("Red Bag", "<my-red-bag>"),
        ("photos/2026/Red_Bag/", "<my-red-bag>"),
        ("C:\\Users\\me\\Pictures\\cat", "<my-cat>"),
        ("a, (b): {c} \\d", "<my-d>"),
        ("<astro>", "<my-astro>"),
        ("astro.v2", "<my-astro-v2>"),
        ("\u732b", "<my-\u732b>"),
        ("my", "<my-my>"),
    ],
)
def test_it_is_made_from_the_name(name, made):
    assert default_placeholder(name) == made
    check_placeholder(made, "animal")


@pytest.mark.parametrize("name", ["", " ", "...", "/", "<>", "\n"])
def test_a_name_without_letters_gives_the_general_one(name):
    assert default_placeholder(name) == DEFAULT_PLACEHOLDER


def test_it_is_never_the_category_and_never_too_long():
    check_placeholder(default_placeholder("dog"), "dog")
    long = default_placeholder("x" * 300)
    assert long == f"<my-{'x' * LONGEST}>"
