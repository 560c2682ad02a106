"""Graphs on a Stable Diffusion checkpoint, as wired: on a small one, and a small ControlNet."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from support.control_net import control_net_file
from support.encoders import clip_folder
from support.outcome import Outcome
from support.server import HostServer
from support.shipped import Shipped, rank_in
from support.workflow import ui_workflow_to_api

from attndreambooth.devkit.checkpoints import make_checkpoint
from attndreambooth.devkit.host_path import host_root
from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.photos import write_photos

pytestmark = [pytest.mark.host, pytest.mark.slow]

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
CONTROL = "control_v11p_sd15_canny_fp16.safetensors"
SIDE = 64


@pytest.fixture(scope="module")
def stocked(server: HostServer, host) -> Iterator[HostServer]:
    """The server with small files under the names that the graphs have, photos and a picture."""
    models = server.base / "models"
    files = [models / "checkpoints" / CHECKPOINT, models / "controlnet" / CONTROL]
    files[1].parent.mkdir(exist_ok=True)
    shutil.copy2(make_checkpoint("sd15"), files[0])
    control_net_file(files[1])
    write_photos(server.base / "input" / "my-dog", 3)
    shutil.copy2(host_root() / "input" / "example.png", server.base / "input")
    yield server
    for file in files:
        file.unlink()


@pytest.fixture(scope="module")
def taught(stocked: HostServer) -> Outcome:
    """*Teach a subject (fast)*, which saves the concept that the other graph draws."""
    return Shipped(stocked, "Teach a subject (fast)", SIDE).run()


def drawn(server: HostServer, graph: Shipped, outcome: Outcome, kind: str) -> np.ndarray:
    [node] = [key for key in graph.ids(kind) if outcome.outputs[key].get("images")]
    [file] = outcome.outputs[node]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB")).astype(float)


def test_fast_draws_and_saves(stocked, taught):
    graph = Shipped(stocked, "Teach a subject (fast)", SIDE)
    assert drawn(stocked, graph, taught, "SaveImage").shape == (SIDE, SIDE, 3)
    for kind in ("embeddings", "loras"):
        assert (stocked.base / "models" / kind / "my-dog.safetensors").is_file()


@pytest.mark.parametrize(("name", "rank"), [("Teach a subject", 0), ("Teach a subject (LoRA)", 16)])
def test_the_main_job_draws_and_saves(stocked, name, rank):
    graph = Shipped(stocked, name, SIDE)
    [save], saved = graph.ids("AttnDBSaveConcept"), f"of-rank-{rank}"
    graph.prompt[save]["inputs"]["name"] = saved
    assert drawn(stocked, graph, graph.run(), "SaveImage").shape == (SIDE, SIDE, 3)
    assert rank_in(stocked.base / "models" / "loras" / f"{saved}.safetensors") == rank


@pytest.mark.parametrize(
    ("presets", "names"),
    [
        (("paper", "lora"), ("Teach a subject", "Teach a subject (LoRA)")),
        (("sdxl", "sdxl-lora"), ("Teach a subject (SDXL)", "Teach a subject (SDXL, LoRA)")),
    ],
)
def test_as_a_lora_the_main_job_differs_in_its_preset_alone(stocked, presets, names):
    known = stocked.object_info()
    whole, thin = (
        ui_workflow_to_api(json.loads(path.read_text(encoding="utf-8")), known)
        for path in (ROOT / "workflows" / f"{name}.json" for name in names)
    )
    [train] = [key for key, node in thin.items() if node["class_type"] == "AttnDBAllStages"]
    assert (whole[train]["inputs"].pop("preset"), thin[train]["inputs"].pop("preset")) == presets
    assert thin == whole


def test_a_saved_concept_is_scored_at_each_strength_against_its_photos(stocked, taught):
    graph = Shipped(stocked, "Evaluate a concept (SD 1.5)", SIDE)
    encoder = clip_folder(stocked.base / "models" / "clip_vision" / "clip-vit-base-patch32")
    [scored], [report] = graph.ids("AttnDBEvaluateConcept"), graph.ids("AttnDBTrainingReport")
    small = {"steps": 2, "images_per_prompt": 1, "width": SIDE, "height": SIDE}
    graph.prompt[scored]["inputs"] |= small
    [prompts] = graph.ids("AttnDBPromptSet")
    graph.prompt[prompts]["inputs"]["count"] = 2
    try:
        outcome = graph.run()
    finally:
        shutil.rmtree(encoder)
    table = outcome.outputs[scored]["text"][0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert "identity" in rows[0] and "text" in rows[0]
    assert [row.split(" | ")[1] for row in rows[1:]] == ["2"] * 4  # pictures of each column
    assert rows[1].startswith("| before training") and "0.6" in rows[4].split(" | ")[0]
    assert outcome.outputs[report]["text"][0].split("\n")[0].endswith("report.html")


def test_a_saved_concept_is_drawn_in_the_outlines_of_a_picture(stocked, taught):
    graph = Shipped(stocked, "Concept with ControlNet", SIDE)
    pictures = {}
    [follow], [apply] = graph.ids("ControlNetApplyAdvanced"), graph.ids("AttnDBApplyConcept")
    for name, key, strength in (
        ("as shipped", follow, graph.prompt[follow]["inputs"]["strength"]),
        ("no outlines", follow, 0.0),
        ("no concept", apply, 0.0),
    ):
        before = graph.prompt[key]["inputs"]["strength"]
        graph.prompt[key]["inputs"]["strength"] = strength
        outcome = graph.run()
        graph.prompt[key]["inputs"]["strength"] = before
        pictures[name] = drawn(stocked, graph, outcome, "SaveImage")
    shown = pictures["as shipped"]
    assert shown.shape == (SIDE, SIDE, 3) and shown.std() > 5
    for name in ("no outlines", "no concept"):
        assert np.abs(shown - pictures[name]).mean() > 0.5, name
