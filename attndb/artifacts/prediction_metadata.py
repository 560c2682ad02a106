"""What a file of weights says in its metadata of the model it was trained on: epsilon or v.

The modelspec standard has a key for it, kohya sd-scripts before that one had others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .tensor_file import SAFETENSORS, read_metadata

KEY = "modelspec.prediction_type"
PREDICTIONS = {"epsilon": "epsilon", "v": "v", "v_prediction": "v", "velocity": "v"}
"""Ours by what others write: the standard says v, diffusers v_prediction."""
_BASES = {"sd_v1": "epsilon", "sd_v2": "epsilon", "sd_v1_v": "v", "sd_v2_v": "v"}
"""kohya's `ss_base_model_version`; of SDXL it says nothing."""


def told_prediction(metadata: Mapping[str, str]) -> str | None:
    """`epsilon` or `v`; None where nothing is said. Where two keys differ it is v: tools write
    epsilon unasked, but never v."""
    velocity = metadata.get("ss_v_parameterization", "").lower() == "true"
    told = {
        PREDICTIONS.get(metadata.get(KEY, "").lower()),
        _BASES.get(metadata.get("ss_base_model_version", "")),
        "v" if velocity else None,
    }
    return "v" if "v" in told else "epsilon" if "epsilon" in told else None


def file_prediction(path: Path) -> str | None:
    """`told_prediction` of a file; None of one that is no readable safetensors."""
    if path.suffix.lower() not in SAFETENSORS:
        return None
    try:
        return told_prediction(read_metadata(path))
    except (ValueError, OSError):
        return None
