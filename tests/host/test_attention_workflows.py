"""The shipped attention workflows run in a real server on attndb-micro, and show what they say."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from support.workflow import ui_workflow_to_api

from attndreambooth.devkit.pack import ROOT

pytestmark = pytest.mark.host


def prompt_of(server, name: str) -> dict:
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return ui_workflow_to_api(workflow, server.object_info())


def nodes_of(prompt: dict, kind: str) -> list[str]:
    return [key for key, node in prompt.items() if node["class_type"] == kind]


def pictures_of(server, outcome, key: str) -> list[np.ndarray]:
    files = outcome.outputs[key]["images"]
    return [np.asarray(Image.open(io.BytesIO(server.view(f))).convert("RGB")) for f in files]


def picture_of(server, outcome, key: str) -> np.ndarray:
    [picture] = pictures_of(server, outcome, key)
    return picture


def test_attention_maps_finds_the_robot(server):
    prompt = prompt_of(server, "Where each word looks")
    outcome = server.run(prompt)
    [sheet] = nodes_of(prompt, "SaveImage")
    assert min(picture_of(server, outcome, sheet).shape[:2]) > 500
    [preview] = nodes_of(prompt, "PreviewImage")
    mask = picture_of(server, outcome, preview)[..., 0] > 127
    columns = np.nonzero(mask)[1]
    # The robot stands beside a boat, and the word looks at it, not at the rest.
    assert 0.03 < mask.mean() < 0.5
    assert abs(columns.mean() / mask.shape[1] - 0.5) < 0.3
    [text] = nodes_of(prompt, "PreviewAny")
    report = outcome.outputs[text]["text"][0]
    entropy = {line.split()[0]: float(line.split()[2]) for line in report.splitlines()[1:]}
    assert max(entropy["robot"], entropy["boat"]) < min(entropy["on"], entropy["the"])


def test_compare_stages_has_a_column_for_each_stage(server):
    prompt = prompt_of(server, "Compare stages")
    for node in prompt.values():
        if node["class_type"].startswith("AttnDBStage"):
            node["inputs"].update(steps=1, batch_size=2)
        if node["class_type"] == "AttnDBCompareConcepts":
            node["inputs"].update(steps=2)
            cell = node["inputs"]["cell_size"]
    outcome = server.run(prompt)
    [figures] = nodes_of(prompt, "SaveImage")
    pictures = pictures_of(server, outcome, figures)
    assert len(pictures) == 2  # prompts
    for picture in pictures:
        height, width, _ = picture.shape
        assert width > 4 * cell
        assert height > 3 * cell  # pictures, the placeholder's maps, the category's maps


def test_regularize_a_stock_lora_trains_draws_and_shows_the_maps(server):
    prompt = prompt_of(server, "Regularize a stock LoRA")
    [train], [sheet] = nodes_of(prompt, "TrainLoraNode"), nodes_of(prompt, "SaveImage")
    prompt[train]["inputs"]["steps"] = 2
    outcome = server.run(prompt)
    assert len(outcome.outputs[sheet]["images"]) == 2
    [text] = nodes_of(prompt, "PreviewAny")
    assert {"sks", "robot", "forest"} <= set(outcome.outputs[text]["text"][0].split())
    assert list((server.base / "output" / "loras").glob("sks-robot_2_steps_*.safetensors"))
