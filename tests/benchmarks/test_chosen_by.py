"""How well a choice by CLIP scores finds what is truly best (benchmarks/chosen_by.py)."""

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.evaluation.scores import Scores
from attndreambooth.benchmarks.chosen_by import HEAD, lines, main, merits, pictures_of


def test_a_rule_is_as_good_as_the_order_it_makes_and_what_it_chooses():
    truth = (0.2, 0.6, 0.9)
    right, wrong = (0.1, 0.3, 0.5), (0.9, 0.5, 0.1)
    concept = [
        (true, {"right": one, "wrong": other})
        for true, one, other in zip(truth, right, wrong, strict=True)
    ]
    flat = [(true, {"right": one, "wrong": one}) for true, one in zip(truth, right, strict=True)]
    assert lines([concept]) == [
        HEAD,
        "| right | 1.00 | 0.90 | 0.90 |",
        "| wrong | -1.00 | 0.20 | 0.90 |",
    ]
    assert lines([concept, flat])[2] == "| wrong | 0.00 | 0.55 | 0.90 |"


def test_merits_are_geometric_means_and_what_was_not_measured_is_none_of_them():
    values = {"identity": 0.64, "text": 0.25, "context": 0.16}
    found = merits(Scores(label="x", pictures=8, by_encoder={"clip": values}))
    assert found == {
        "identity and text": 0.4,
        "identity": 0.64,
        "text": 0.25,
        "identity and context": 0.32,
    }
    assert merits(Scores(label="x", pictures=8, by_encoder={"dino": {"identity": 0.64}})) == {
        "identity and text": 0.0,
        "identity": 0.64,
        "text": 0.0,
        "identity and context": 0.0,
    }


def test_pictures_of_a_strip_are_squares_from_left_to_right(tmp_path):
    pixels = np.zeros((4, 12, 3), np.uint8)
    for number in range(3):
        pixels[:, 4 * number : 4 * number + 4] = 51 * number
    Image.fromarray(pixels).save(tmp_path / "strip.png")
    found = pictures_of(tmp_path / "strip.png")
    assert [picture.shape for picture in found] == [(4, 4, 3)] * 3
    assert [round(255 * float(picture.unique())) for picture in found] == [0, 51, 102]
    assert all(picture.dtype == torch.float32 for picture in found)


def test_a_folder_without_rows_of_the_page_is_said(tmp_path):
    with pytest.raises(SystemExit, match=r"no row in .* has a picture and is of the weights"):
        main(["--rows", str(tmp_path)])
