"""Clip skip in a record, and in the words of kohya's scripts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.concepts import concept_with

from attndreambooth.attndb.artifacts.clip_layer import (
    OWN,
    layers_skipped,
    skip_metadata,
    told_layer,
    trained_layer,
)
from attndreambooth.attndb.artifacts.concept_files import RECORD_KEY, concept_files
from attndreambooth.attndb.artifacts.manager_metadata import manager_metadata
from attndreambooth.attndb.artifacts.tensor_file import read_metadata, write_whole
from attndreambooth.attndb.artifacts.weight_delta import LowRank

SKIPPED = {"stages": [{"stage": 1, "clip_layer": -2}]}
LORA = {
    "middle_block.1.transformer_blocks.0.attn2.to_k.weight": LowRank(
        torch.ones(8, 2), torch.ones(2, 6), (8, 6)
    )
}


@pytest.mark.parametrize(
    ("record", "layer"),
    [
        ({}, None),  # other programs' files, which say nothing
        ({"stages": []}, None),
        ({"stages": [], "clip_layer": -2}, -2),
        ({"stages": [], "clip_layer": 0}, OWN),
        ({"stages": [{}]}, OWN),
        (SKIPPED, -2),
        ({"stages": [{"clip_layer": -2}, {}]}, OWN),  # the last one's U-Net is drawn with
        ({"stages": [{}], "clip_layer": -2}, OWN),  # imported, and trained on
        ({"stages": [{"clip_layer": "-2"}]}, None),
        ({"stages": [{"clip_layer": True}]}, None),
        ({"stages": [{"clip_layer": 3}]}, None),
        ({"stages": 5, "clip_layer": -99}, None),
    ],
)
def test_the_layer_of_a_record_is_that_of_its_last_stage(record, layer):
    assert trained_layer(record) == layer


@pytest.mark.parametrize(
    ("family", "layer", "skipped", "kohyas"),
    [
        ("SD 1.5", -2, 1, "2"),
        ("SD 1.5", -3, 2, "3"),
        ("SD 2.1-base", -3, 1, None),
        ("SDXL", -1, -1, None),
        ("attndb-micro", -2, 0, None),
    ],
)
def test_kohyas_count_begins_with_one_and_is_told_of_sd_1_alone(family, layer, skipped, kohyas):
    concept = concept_with({}, family).with_record({"stages": [{"clip_layer": layer}]})
    assert layers_skipped(concept) == skipped
    assert skip_metadata(concept).get("ss_clip_skip") == kohyas
    assert manager_metadata(concept).get("ss_clip_skip") == kohyas
    assert skip_metadata(concept.with_record({"stages": [{}]})) == {}


@pytest.mark.parametrize(
    ("told", "layer"),
    [("2", -2), ("1", OWN), ("None", None), ("", None), ("0", None), ("-2", None), ("99", None)],
)
def test_a_file_of_kohyas_scripts_says_the_layer(told, layer):
    assert told_layer({"ss_clip_skip": told}, "SD 1.5") == layer
    assert told_layer({"ss_clip_skip": told}, "SDXL") is None
    assert told_layer({}, "SD 1.5") is None


def test_a_lora_says_it_in_kohyas_words_and_of_the_own_layer_has_the_bytes_that_it_had(tmp_path):
    def saved(record, name):
        concept = dataclasses.replace(concept_with(LORA), record=record)
        weights = tmp_path / f"{name}-weights.safetensors"
        write_whole(concept_files(concept, "x", tmp_path / f"{name}.safetensors", weights))
        return read_metadata(weights)

    assert saved(SKIPPED, "skipped")["ss_clip_skip"] == "2"
    plain = saved({"stages": [{"stage": 1}]}, "plain")
    assert "ss_clip_skip" not in plain and "clip_layer" not in plain[RECORD_KEY]
