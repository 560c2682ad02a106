"""What a LoRA's metadata says of the model that it is of."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.manager_metadata import manager_metadata
from attndreambooth.attndb.artifacts.prediction_metadata import file_prediction, told_prediction


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({}, None),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"modelspec.prediction_type": "v"}, "v"),
        ({"modelspec.prediction_type": "v_prediction"}, "v"),
        ({"modelspec.prediction_type": "sample"}, None),
        ({"ss_base_model_version": "sd_v1"}, "epsilon"),
        ({"ss_base_model_version": "sd_v2_v"}, "v"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, None),
        ({"ss_v_parameterization": "True"}, "v"),
        ({"ss_v_parameterization": "False"}, None),
        ({"ss_base_model_version": "sd_v2", "ss_v_parameterization": "true"}, "v"),
        ({"modelspec.prediction_type": "epsilon", "ss_base_model_version": "sd_v1_v"}, "v"),
    ],
)
def test_it_is_read_of_each_programs_own_keys(tmp_path, metadata, told):
    assert told_prediction(metadata) == told
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", metadata)
    assert file_prediction(tmp_path / "a.safetensors") == told


def test_a_file_that_cannot_be_read_says_nothing(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    assert file_prediction(tmp_path / "a.safetensors") is None
    assert file_prediction(tmp_path / "a.bin") is None


@pytest.mark.parametrize(
    ("family", "record", "version", "told"),
    [
        ("SD 1.5", None, "sd_v1", "epsilon"),
        ("SD 1.5", "v", "sd_v1_v", "v"),  # behind ModelSamplingDiscrete
        ("SD 2.1-768", None, "sd_v2_v", "v"),
        ("SD 2.1-768", "epsilon", "sd_v2", "epsilon"),
        ("SDXL", "v", "sdxl_base_v1-0", "v"),
        ("SDXL", None, "sdxl_base_v1-0", None),
    ],
)
def test_what_managers_are_told_is_what_the_record_says(family, record, version, told):
    concept = TrainedConcept(
        placeholder="<x>",
        category="dog",
        text_key="clip_l",
        vectors=torch.ones(1, 8),
        base_family=family,
        record={} if record is None else {"prediction_type": record},
    )
    metadata = manager_metadata(concept)
    assert metadata["ss_base_model_version"] == version
    assert metadata.get("modelspec.prediction_type") == told
    assert told_prediction(metadata) == told
