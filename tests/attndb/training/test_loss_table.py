"""Losses in files: names once, a row for every step; those of earlier versions are read."""

from __future__ import annotations

import json

import pytest

from attndreambooth.attndb.training.loss_table import LossTable
from attndreambooth.attndb.training.step_loss import StepLoss

LOSSES = [
    StepLoss(0, {"denoising": 0.5, "attention_map": 0.25, "weight_anchor": 0.0}),
    StepLoss(1, {"denoising": 0.4, "attention_map": 0.125, "weight_anchor": 0.0625}),
]


def test_what_is_written_is_read():
    table = LossTable.of(LOSSES)
    assert LossTable.from_json(table.as_json(), "2").losses == LOSSES
    assert LossTable.from_record(table.as_record()) == table
    assert LossTable.from_json(LossTable.of([]).as_json(), "0").losses == []


def test_a_share_that_a_step_lacks_is_none_there_and_the_names_keep_their_order():
    other = StepLoss(2, {"denoising": 0.3, "prior": 0.1})
    table = LossTable.of([*LOSSES, other])
    assert table.names == ("denoising", "attention_map", "weight_anchor", "prior")
    assert table.rows[0] == (0.5, 0.25, 0.0, 0.0) and table.rows[2] == (0.3, 0.0, 0.0, 0.1)


def test_a_share_that_is_always_zero_has_no_curve():
    shares = {"denoising": 0.0, "attention_map": 0.0, "prior": 0.5}
    drawn = LossTable.of([StepLoss(0, shares), StepLoss(1, shares)]).curves
    assert drawn == {"denoising": (0.0, 0.0), "prior preservation": (0.5, 0.5)}
    assert LossTable.of([]).curves == {}


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("[[0.5, 0.25]]", {"denoising": 0.5, "attention_map": 0.25}),
        ("[[0.5, 0.0, 0.1]]", {"denoising": 0.5, "attention_map": 0.0, "prior": 0.1}),
        ('[{"denoising": 0.5, "weight_anchor": 0.1}]', {"denoising": 0.5, "weight_anchor": 0.1}),
    ],
)
def test_run_folders_of_earlier_versions_are_read(text, shares):
    [loss] = LossTable.from_json(text, "1").losses
    assert dict(loss.shares) == shares


def test_rows_of_an_earlier_version_may_lack_the_prior():
    table = LossTable.from_record({"losses": [[0.5, 0.0], [0.4, 0.0, 0.1]]})
    assert table.rows == ((0.5, 0.0, 0.0), (0.4, 0.0, 0.1))


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"losses": [[0.1, 0.2, 0.3, 0.4]]},
        {"losses": [[]]},
        {"losses": [[True]]},
        {"losses": [[float("inf")]]},
        {"losses": [[10**400]]},
        {"losses": [[0.1]], "loss_names": ["a", "b"]},
        {"losses": [[0.1]], "loss_names": [1]},
        {"losses": [{"a": 0.1}, [0.1]]},
    ],
)
def test_what_is_no_table_is_refused(record):
    with pytest.raises(ValueError, match=r"loss"):
        LossTable.from_record(record)
    with pytest.raises(ValueError, match=r"loss"):
        LossTable.from_json(json.dumps(record), "1")
