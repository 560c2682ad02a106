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
from support.outcome import Outcome
from support.server import HostServer
from support.shipped import Shipped
from support.workflow import ui_workflow_to_api

from attndreambooth.devkit.checkpoints import make_checkpoint
from attndreambooth.devkit.pack import ROOT, host_root
from attndreambooth.devkit.photos import write_photos

pytestmark = [pytest.mark.host, pytest.mark.slow]

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
CONTROL = "control_v11p_sd15_canny_fp16.safetensors"
SIDE = 64
LORA = "Teach a subject (LoRA)"


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


def test_the_main_job_draws_and_saves(stocked):
    graph = Shipped(stocked, "Teach a subject", SIDE)
    [save] = graph.ids("AttnDBSaveConcept")
    graph.prompt[save]["inputs"]["name"] = "my-dog-in-full"
    assert drawn(stocked, graph, graph.run(), "SaveImage").shape == (SIDE, SIDE, 3)
    assert (stocked.base / "models" / "loras" / "my-dog-in-full.safetensors").is_file()


def test_as_a_lora_the_main_job_differs_in_its_preset_alone(stocked):
    known = stocked.object_info()
    whole, thin = (
        ui_workflow_to_api(json.loads(path.read_text(encoding="utf-8")), known)
        for path in (ROOT / "workflows" / f"{name}.json" for name in ("Teach a subject", LORA))
    )
    [train] = [key for key, node in thin.items() if node["class_type"] == "AttnDBAllStages"]
    assert thin[train]["inputs"].pop("preset") == "lora"
    assert whole[train]["inputs"].pop("preset") == "paper"
    assert thin == whole


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
