"""The shipped evaluation runs in a real server: scores under the node, a report for a friend."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from support.shipped import Shipped
from support.workflow import ui_workflow_to_api

from attndreambooth.devkit.pack import ROOT

pytestmark = pytest.mark.host
CELLS = ("before training", "after stage 1", "after stage 2", "after stage 3")


def test_evaluate_a_concept_scores_every_stage_and_writes_a_report(server):
    path = ROOT / "workflows" / "Evaluate a concept.json"
    workflow = json.loads(path.read_text(encoding="utf-8"))
    prompt = ui_workflow_to_api(workflow, server.object_info())
    keys = {node["class_type"]: key for key, node in prompt.items()}
    for kind, key in keys.items():
        if kind.startswith("AttnDBStage"):
            prompt[key]["inputs"].update(steps=1, batch_size=2)
    prompt[keys["AttnDBEvaluateConcept"]]["inputs"].update(steps=2, images_per_prompt=1)
    prompt[keys["AttnDBPromptSet"]]["inputs"].update(count=2)
    outcome = server.run(prompt)

    [table] = outcome.outputs[keys["AttnDBEvaluateConcept"]]["text"]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(CELLS)
    # of pictures after two steps which is best is chance: that one of them is named is not
    assert any(f"Best by identity and text: {cell}" in table for cell in CELLS)
    [file, _] = outcome.outputs[keys["AttnDBTrainingReport"]]["text"][0].splitlines()
    assert file.endswith("report.html")
    page = (server.base / "output" / "reports").rglob("report.html")
    text = max(page, key=lambda p: p.stat().st_mtime).read_text(encoding="utf-8")
    written = re.sub(r"data:image/[^\"')]*", "", text)  # letters of a picture can be any
    assert "http" not in written.replace("http-equiv", "") and "after stage 3" in text
    [shown] = outcome.outputs[keys["AttnDBTrainingReport"]]["images"]
    picture = np.asarray(Image.open(io.BytesIO(server.view(shown))).convert("RGB"))
    assert picture.shape[1] == 1200 and picture.shape[0] > 1000


def test_compare_methods_scores_every_method(server):
    graph = Shipped(server, "Compare methods", 128)
    for node in graph.prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "AttnDBTrainComparedMethod":
            inputs |= {"method.steps": 1, "method.batch_size": 2}
        elif node["class_type"] == "AttnDBEvaluateConcept":
            inputs |= {"steps": 2, "images_per_prompt": 1}
        elif node["class_type"] == "AttnDBPromptSet":
            inputs["count"] = 2
    outcome = graph.run()
    [scored], [picture] = graph.ids("AttnDBEvaluateConcept"), graph.ids("SaveImage")
    rows = [line for line in outcome.outputs[scored]["text"][0].splitlines() if line[:2] == "| "]
    methods = ["before training", "AttnDreamBooth", "Textual Inversion", "DreamBooth"]
    assert [row.split(" | ")[0].strip("| ") for row in rows[1:]] == methods
    assert outcome.outputs[picture]["images"]


def test_which_step_was_best_scores_what_was_kept_in_the_same_run_and_not_twice(server):
    graph = Shipped(server, "Which step was best", 128)
    changes = {
        "AttnDBTrainingOptions": {"checkpoint_concepts": 1},
        "AttnDBStage3TrainUNet": {"seed": 1977},  # no other test's finished training answers
        "AttnDBEvaluateConcept": {"steps": 2, "images_per_prompt": 1},
        "AttnDBPromptSet": {"count": 2},
        "AttnDBSaveConcept": {"name": "toy-best-step"},
    }
    keys = {kind: graph.ids(kind)[0] for kind in (*changes, "AttnDBLoadKeptConcepts")}
    for kind, values in changes.items():
        graph.prompt[keys[kind]]["inputs"] |= values
    outcome = graph.run()
    [table] = outcome.outputs[keys["AttnDBEvaluateConcept"]]["text"]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    found = [row.split(" | ")[0].strip("| ") for row in rows]
    assert found == ["before training", "after stage 3, step 1", "after stage 3"]
    [best] = outcome.outputs[keys["AttnDBSaveConcept"]]["attndb"]
    assert best["name"] == "toy-best-step" and best["trigger"] == "<my-robot> robot"

    again = graph.run()
    cached = next(e["data"]["nodes"] for e in again.events if e["type"] == "execution_cached")
    assert {keys["AttnDBLoadKeptConcepts"], keys["AttnDBEvaluateConcept"]} <= set(cached)
