"""Every workflow that we ship opens in the real front end, whole and readable."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.graph import Graph
from support.layout import overlapping, overlaps
from support.workflow import BYPASS, NEVER, is_ui_workflow, ui_workflow_to_api

from attndreambooth.devkit.pack import ROOT

sys.path.append(str(Path(__file__).parent))
from author import author

pytestmark = [pytest.mark.host, pytest.mark.browser]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def info(server) -> dict:
    """Every node that the server knows."""
    return server.object_info()


@pytest.fixture(params=WORKFLOWS, ids=lambda p: p.stem)
def workflow(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_a_shipped_workflow_opens_without_missing_nodes_or_errors(front_end, workflow):
    assert is_ui_workflow(workflow), "an API prompt has no positions: make it with author.py"
    assert front_end.missing_nodes(workflow) == []
    front_end.load(workflow)
    assert front_end.errors == []
    opened = front_end.graph()
    assert {n["id"]: n["type"] for n in opened["nodes"]} == {
        n["id"]: n["type"] for n in workflow["nodes"]
    }
    assert len(opened["links"]) == len(workflow["links"])


def test_a_shipped_workflow_is_laid_out_without_overlaps(workflow):
    assert overlaps(workflow) == []


def test_a_shipped_workflow_is_drawn_without_overlaps_in_both_renderers(
    front_end, renderer, workflow
):
    front_end.load(workflow)
    assert overlapping(front_end.settled_boxes(renderer)) == []


def test_a_shipped_workflow_samples_behind_apply_concept_so_that_a_bypass_keeps_the_concept(
    workflow,
):
    types = {node["id"]: node["type"] for node in workflow["nodes"]}
    trainers = {key for key, kind in types.items() if "Stage" in kind}
    taken = {(link[1], link[5]) for link in workflow["links"] if link[1] in trainers}
    assert not {link for link in taken if link[1] in ("MODEL", "CLIP")}


def test_a_shipped_workflow_does_not_change_its_seeds_by_itself(workflow):
    values = [v for n in workflow["nodes"] for v in n.get("widgets_values") or []]
    assert "randomize" not in values


def test_our_conversion_to_a_prompt_is_the_front_ends(front_end, workflow, info):
    front_end.load(workflow)
    theirs = {k: {**v, "_meta": None} for k, v in front_end.prompt().items()}
    ours = ui_workflow_to_api(workflow, info)
    assert {k: {**v, "_meta": None} for k, v in ours.items()} == theirs


@pytest.mark.parametrize("mode", [NEVER, BYPASS])
@pytest.mark.parametrize("name", ["Stage by stage", "Evaluate a concept"])
def test_muted_and_bypassed_nodes_leave_the_prompt_as_we_say(front_end, info, name, mode):
    """Each of our nodes in turn; docs/chaining.md has the rule of it for every node."""
    saved = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    ours = [node["id"] for node in saved["nodes"] if node["type"].startswith("AttnDB")]
    for out in ours:
        for node in saved["nodes"]:
            node["mode"] = mode if node["id"] == out else 0
        front_end.load(saved)
        theirs = {key: {**node, "_meta": None} for key, node in front_end.prompt().items()}
        made = ui_workflow_to_api(saved, info)
        assert {key: {**node, "_meta": None} for key, node in made.items()} == theirs, out


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_shipped_workflow_has_a_picture_for_the_template_browser(path, server):
    picture = path.with_suffix(".jpg")
    assert picture.is_file(), f"make it: python dev.py picture {path.relative_to(ROOT)}"
    assert min(Image.open(picture).size) >= 200
    listed = server.get("/workflow_templates")
    assert path.stem in next(v for k, v in listed.items() if "attndreambooth" in k.lower())


def test_a_prompt_becomes_a_workflow_with_groups_and_a_picture(front_end, server, tmp_path):
    graph = Graph()
    loaded = graph.add("CheckpointLoaderSimple", ckpt_name="any.safetensors")
    saved = graph.sample(loaded[0], loaded[1], loaded[2], "a photo of a cat", seed=5)
    spec = {
        "prompt": graph.prompt,
        "groups": [
            {"title": "Model", "nodes": [1]},
            {"title": "Picture", "nodes": [2, 3, 4, 5, 6, int(saved.id)], "color": "#8A8"},
        ],
        "notes": [{"text": "# Read me", "group": "Model"}],
    }
    workflow = author(front_end, spec)
    assert overlaps(workflow) == []
    assert [g["title"] for g in workflow["groups"]] == ["Model", "Picture"]
    assert ui_workflow_to_api(workflow, server.object_info()) == graph.prompt
    front_end.picture(tmp_path / "picture.jpg", width=900)
    picture = Image.open(tmp_path / "picture.jpg")
    assert picture.width == 900
    assert len(picture.convert("L").getcolors()) > 60
    assert front_end.errors == []


def test_a_missing_node_is_seen(front_end):
    assert front_end.missing_nodes({"nodes": [{"type": "KSampler"}, {"type": "NoSuchNode"}]}) == [
        "NoSuchNode"
    ]
