"""Every workflow that we ship opens in the real front end, whole and readable."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.frontend import keep_screenshot
from support.graph import Graph
from support.layout import TITLE, overlapping, overlaps
from support.workflow import BYPASS, NEVER, is_ui_workflow, ui_workflow_to_api

from attndreambooth.devkit.pack import ROOT

sys.path.append(str(Path(__file__).parent))
from author import author

pytestmark = [pytest.mark.host, pytest.mark.browser]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
CUT_TITLES = """() => {
    const canvas = app.canvas.ctx;
    canvas.save();
    const cut = app.graph._nodes.filter(node => {
        canvas.font = node.titleFontStyle;
        return canvas.measureText(node.getTitle()).width > node.size[0] - 40;  // the dot, a margin
    }).map(node => node.getTitle());
    canvas.restore();
    return cut;
}"""
ROWS = """() => {  // advanced widgets: those that show, the count of the others
    const ours = app.graph._nodes.filter(node => node.type.startsWith('AttnDB'));
    const rare = ours.flatMap(node => (node.widgets ?? []).filter(w => w.options?.advanced)
        .map(widget => [node.isWidgetVisible(widget), `${node.type}.${widget.name}`]));
    return [rare.filter(([shows]) => shows).map(([, name]) => name),
            rare.filter(([shows]) => !shows).length];
}"""

SET_MODES = "(modes) => app.graph._nodes.forEach(node => { node.mode = modes[node.id]; })"


@pytest.fixture(scope="module")
def info(server) -> dict:
    """Every node that the server knows."""
    return server.object_info()


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda p: p.stem)
def workflow(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture
def opened(front_end, workflow):
    """The page with the workflow in it, classic, without a complaint. The tests that only look at
    it come one after the other, and the first opens it for all."""
    if front_end.showing is not workflow:
        front_end.load(workflow)
        assert front_end.errors == []
        front_end.showing = workflow
    return front_end


def test_a_shipped_workflow_opens_without_missing_nodes_or_errors(opened, workflow):
    assert is_ui_workflow(workflow), "an API prompt has no positions: make it with author.py"
    assert opened.missing_nodes(workflow) == []
    graph = opened.graph()
    assert {n["id"]: n["type"] for n in graph["nodes"]} == {
        n["id"]: n["type"] for n in workflow["nodes"]
    }
    assert len(graph["links"]) == len(workflow["links"])


def test_a_shipped_workflow_is_laid_out_without_overlaps(workflow):
    assert overlaps(workflow) == []


def test_a_shipped_workflow_is_drawn_without_overlaps(opened, request):
    _is_drawn_apart(opened, request.node.callspec.params["workflow"].stem)


@pytest.mark.parametrize("renderer", [True], ids=["nodes-2.0"])
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_shipped_workflow_is_drawn_without_overlaps_in_nodes_2(front_end, renderer, path):
    front_end.load(json.loads(path.read_text(encoding="utf-8")))
    _is_drawn_apart(front_end, path.stem)


def _is_drawn_apart(front_end, name):
    boxes = front_end.settled_boxes(front_end.vue)
    keep_screenshot(front_end, f"workflow-{name}", whole=True)
    assert overlapping(boxes) == []


def test_a_shipped_workflow_has_no_cut_title_and_folds_what_is_rarely_changed(opened):
    assert opened.page.evaluate(CUT_TITLES) == []
    shown, folded = opened.page.evaluate(ROWS)
    assert shown == [] and folded > 0


def test_rarely_changed_widgets_unfold_and_go_on_saying_their_values(front_end):
    graph = Graph()
    graph.add("AttnDBStage1LearnEmbedding", checkpoint_every=7)
    front_end.load_prompt(graph.prompt)
    [(_, _, top, _, bottom)] = front_end.settled_boxes(False)
    assert front_end.prompt()["1"]["inputs"]["checkpoint_every"] == 7
    front_end.page.evaluate("() => app.graph._nodes[0].toggleAdvanced()")
    [(_, _, _, _, lower)] = front_end.settled_boxes(False)
    assert lower - bottom > (bottom - top) / 3
    assert front_end.page.evaluate(ROWS)[0] != []
    assert front_end.errors == []


def test_a_shipped_workflow_reads_from_left_to_right_and_its_groups_hold_their_nodes(workflow):
    """In a column of a group downwards; a lower row of groups begins at the left again."""
    by_id = {node["id"]: node for node in workflow["nodes"]}
    boxes = [group["bounding"] for group in workflow["groups"]]
    home = {}
    for key, node in by_id.items():
        (x, y), (width, height) = node["pos"], node["size"]
        home[key] = [
            number
            for number, (left, top, wide, high) in enumerate(boxes)
            if left <= x
            and top <= y - TITLE
            and x + width <= left + wide
            and y + height <= top + high
        ]
        assert len(home[key]) == 1, node["type"]
    for _, origin, _, target, _, _ in workflow["links"]:
        (x, y), (other_x, other_y) = by_id[origin]["pos"], by_id[target]["pos"]
        lower = boxes[home[target][0]][1] > boxes[home[origin][0]][1]
        forward = other_x > x or (other_x == x and other_y > y) or lower
        assert forward, (origin, target)


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


def test_our_conversion_to_a_prompt_is_the_front_ends(opened, workflow, info):
    theirs = {k: {**v, "_meta": None} for k, v in opened.prompt().items()}
    ours = ui_workflow_to_api(workflow, info)
    assert {k: {**v, "_meta": None} for k, v in ours.items()} == theirs


@pytest.mark.parametrize("mode", [NEVER, BYPASS])
@pytest.mark.parametrize("name", ["Stage by stage", "Evaluate a concept"])
def test_muted_and_bypassed_nodes_leave_the_prompt_as_we_say(front_end, info, name, mode):
    """Each of our nodes in turn, in the open page; docs/chaining.md has the rule of it for every
    node."""
    saved = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    ours = [node["id"] for node in saved["nodes"] if node["type"].startswith("AttnDB")]
    front_end.load(saved)
    for out in ours:
        for node in saved["nodes"]:
            node["mode"] = mode if node["id"] == out else 0
        front_end.page.evaluate(SET_MODES, {str(n["id"]): n["mode"] for n in saved["nodes"]})
        theirs = {key: {**node, "_meta": None} for key, node in front_end.prompt().items()}
        made = ui_workflow_to_api(saved, info)
        assert {key: {**node, "_meta": None} for key, node in made.items()} == theirs, out


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_shipped_workflow_has_a_picture_for_the_template_browser(path, server):
    picture = path.with_suffix(".jpg")
    assert picture.is_file(), f"make it: python tests/browser/result.py {path.relative_to(ROOT)}"
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
