"""The main job as a form (app mode), and the three stages as one node (a blueprint): opened, filled
in and run in the page, on the embedded model."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from support.frontend import keep_screenshot
from support.server import HostServer

from attndreambooth.devkit.pack import ROOT

sys.path.append(str(Path(__file__).parent))
from test_photos import choose, photo

pytestmark = [pytest.mark.host, pytest.mark.browser]

APP = ROOT / "workflows" / "Teach a subject (app).json"
[BLUEPRINT] = (ROOT / "subgraphs").glob("*.json")
SHORT = {"steps": 2, "batch_size": 2, "resolution": 64, "precision": "fp32", "latent_pool": 0}
WIRE_UP = """({short, name}) => {
    const packed = app.graph._nodes[0];
    for (const stage of packed.subgraph.nodes) {
        for (const widget of stage.widgets) {
            if (widget.name in short) widget.value = short[widget.name];
        }
    }
    const add = (type) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        return node;
    };
    const set = (node, key, value) => node.widgets.find(w => w.name === key).value = value;
    const wire = (from, output, to, input) => {
        const slot = (slots, key) => slots.findIndex(each => each.name === key);
        from.connect(slot(from.outputs, output), to, slot(to.inputs, input));
    };
    const model = add('AttnDBLoadMicroModel'), photos = add('AttnDBMicroConcept');
    const dataset = add('AttnDBConceptDatasetFromImages'), save = add('AttnDBSaveConcept');
    set(dataset, 'placeholder', '<my-robot>');
    set(save, 'name', name);
    ['model', 'clip', 'vae'].forEach(key => wire(model, key, packed, key));
    wire(photos, 'images', dataset, 'images');
    wire(photos, 'category', dataset, 'category');
    wire(dataset, 'dataset', packed, 'dataset');
    wire(packed, 'concept', save, 'concept');
    app.graph.arrange?.();
}"""


PICTURED = """() => (app.rootGraph ?? app.graph)._nodes.some(
    n => n.subgraph && Object.keys(app.nodePreviewImages).includes(String(n.id)))"""

TOLD = """(text) => {
    const told = app.graph._nodes.find(n => n.subgraph).badges
        .map(badge => (typeof badge === 'function' ? badge() : badge).text)
        .filter(each => each?.startsWith(text));
    return told.length === 1;
}"""
SAVED = """() => {
    const {properties, inputs, widgets_values} =
        app.graph._nodes.find(node => node.subgraph).serialize();
    return {properties, widgets_values, inputs: inputs.map(slot => slot.name)};
}"""


def saved(server: HostServer, name: str) -> list[Path]:
    """The two files of a saved concept."""
    kinds = ("embeddings", "loras")
    return [server.base / "models" / kind / f"{name}.safetensors" for kind in kinds]


def test_the_form_takes_photos_and_words_and_shows_the_picture(front_end, server):
    """Its checkpoint is the embedded model and its training a stage of two steps; what the form
    shows, and how it is wired, is as shipped."""
    workflow = json.loads(APP.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            node |= {"type": "AttnDBLoadMicroModel", "inputs": [], "widgets_values": []}
            node["properties"] = {}
        elif node["type"] == "AttnDBAllStages":
            values = [2, 1e-3, 2, 0, 64, 0, "fp32", "none", True, 0, "last word", 100, 1]
            node |= {"type": "AttnDBStage1LearnEmbedding", "widgets_values": values}
            node["inputs"] = [i for i in node["inputs"] if "widget" not in i]
        elif node["type"] == "EmptyLatentImage":
            node["widgets_values"] = [64, 64, 1]
        elif node["type"] == "KSampler":
            node["widgets_values"] = [0, "fixed", 2, 4.0, "dpmpp_2m", "normal", 1.0]
    page = front_end.page
    front_end.load(workflow, app=True)
    try:
        choose(page, [photo("a.jpg", 1), photo("b.jpg", 2), photo("c.jpg", 3)])
        page.wait_for_function("() => document.querySelectorAll('.attndb-box img').length === 3")
        box = page.locator(".attndb-box").bounding_box()
        for shown in page.locator(".attndb-box img").all():  # whole, not under the frame's edge
            inside = shown.bounding_box()
            assert inside["y"] + inside["height"] <= box["y"] + box["height"]
            assert inside["height"] > 40
        fields = page.evaluate("() => app.graph.extra.linearData.inputs.map(([, name]) => name)")
        assert fields[:4] == ["photo_upload", "category", "name", "string"]
        page.evaluate("""() => {
            const set = (type, name, value) => {
                const node = app.graph._nodes.find(each => each.type === type);
                node.widgets.find(widget => widget.name === name).value = value;
            };
            set('AttnDBLoadConceptDataset', 'category', 'robot');
            set('AttnDBSaveConcept', 'name', 'from-the-form');
        }""")
        front_end.run(240)
        page.wait_for_timeout(1500)
        keep_screenshot(front_end, "app")
        shown = [i.get_attribute("src") for i in page.locator("img").all()]
        assert any("my-subject" in (source or "") for source in shown), shown
        assert saved(server, "from-the-form")[0].is_file()
        assert front_end.errors == []
    finally:
        empty = {"nodes": [], "links": [], "version": 0.4, "extra": {"linearMode": False}}
        front_end.load(empty, app=True)


def test_the_blueprint_is_found_by_its_name_and_runs(front_end, server):
    entries = server.get("/global_subgraphs").values()
    assert BLUEPRINT.stem in {entry["name"] for entry in entries}
    found = front_end.search(BLUEPRINT.stem)
    assert BLUEPRINT.stem in found[0]
    front_end.page.keyboard.press("Enter")
    front_end.page.wait_for_function("() => app.graph._nodes.length === 1")
    # it hangs on the pointer until it is put down, and everything is inert till then
    front_end.page.wait_for_timeout(500)
    size = front_end.page.viewport_size
    front_end.page.mouse.move(size["width"] // 2, size["height"] // 2 + 40, steps=5)
    front_end.page.mouse.click(size["width"] // 2, size["height"] // 2 + 40)
    front_end.page.wait_for_function("() => app.canvas.state.ghostNodeId == null")
    front_end.page.evaluate(WIRE_UP, {"short": SHORT, "name": "from-the-blueprint"})
    keep_screenshot(front_end, "blueprint")
    front_end.run(240)
    keep_screenshot(front_end, "blueprint-after")
    assert front_end.errors == []
    assert all(path.is_file() for path in saved(server, "from-the-blueprint"))


def test_a_training_in_a_blueprint_is_told_of_on_its_node(front_end, server):
    """Curve and text of the stage inside, in both renderers; what would be saved of it stays."""
    front_end.load(json.loads(BLUEPRINT.read_text(encoding="utf-8")))
    page = front_end.page
    long = {**SHORT, "steps": 4000}
    page.evaluate(WIRE_UP, {"short": long, "name": "not-finished"})
    before = page.evaluate(SAVED)
    front_end.start()
    try:
        page.wait_for_function(PICTURED, timeout=240_000, polling=500)
        page.wait_for_function(TOLD, arg="step ", timeout=60_000, polling=500)
        keep_screenshot(front_end, "blueprint-while-training")
        front_end.vue_nodes(True)
        page.get_by_text(re.compile(r"step \d+/4000")).first.wait_for(timeout=60_000)
        keep_screenshot(front_end, "blueprint-while-training-nodes-2.0")
    finally:
        front_end.vue_nodes(False)
        front_end.cancel()
    page.wait_for_function(TOLD, arg="kept at step ", timeout=60_000, polling=500)
    assert page.evaluate(SAVED) == before
    assert front_end.errors == []


def test_the_blueprint_holds_the_stages_with_the_published_steps():
    workflow = json.loads(BLUEPRINT.read_text(encoding="utf-8"))
    [inside] = workflow["definitions"]["subgraphs"]
    steps = [node["widgets_values"][0] for node in inside["nodes"]]
    assert steps == [60, 100, 500]
    wanted = ["model", "clip", "vae", "dataset", "seed", "seed_1", "seed_2"]
    assert [slot["name"] for slot in inside["inputs"]] == wanted
