"""named: the first names, and how many more there are."""

from __future__ import annotations

import pytest

from attndreambooth.attndb.config.named import named

SIX = ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("names", "most", "said"),
    [
        ([], 5, ""),
        (["1"], 1, "1"),
        (SIX[:5], 5, "1, 2, 3, 4, 5"),
        (SIX, 5, "1, 2, 3, 4, 5 and 1 more"),
        (SIX, 1, "1 and 5 more"),
    ],
)
def test_the_first_are_named_and_the_others_counted(names, most, said):
    assert named(names, most) == said


def test_whole_sentences_stay_apart():
    assert named(SIX, 2, sentences=True) == "1; 2; and 4 more"
