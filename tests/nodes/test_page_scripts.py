"""The pack's JavaScript on its own: what the browser's tests cannot count."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from attndreambooth.devkit.pack import ROOT

APP = "export const app = { canvas: {}, rootGraph: null };"
API = "export const api = new EventTarget();"
IMPORTS = """
globalThis.window = new EventTarget();
const { app } = await import("./scripts/app.js");
const { api } = await import("./scripts/api.js");
const { choose, keepFresh } = await import("./extensions/pack/parts.js");
"""
GRAPHS = """
// As the page's LGraph: what is inside a subgraph is not told of when the graph is cleared.
class Graph {
  constructor(id) { Object.assign(this, { id, nodes: new Map(), subgraphs: new Map() }); }
  getNodeById(id) { return this.nodes.get(id); }
  add(node) { node.graph = this; this.nodes.set(node.id, node); return node; }
  clear() {
    this.subgraphs.clear();
    this.nodes.forEach((node) => node.onRemoved?.());
    this.nodes = new Map();
  }
}
app.rootGraph = new Graph("root");
const asked = [];
const watched = (graph, name) =>
  keepFresh(graph.add({ id: 7 }), () => asked.push(name));
function open(workflow) {
  app.rootGraph.clear();
  watched(app.rootGraph, `${workflow}: outside`);
  const inside = new Graph("a subgraph");
  app.rootGraph.subgraphs.set(inside.id, inside);
  watched(inside, `${workflow}: inside`);
}
function run() {
  api.dispatchEvent(new Event("execution_success"));
  return asked.splice(0);
}
"""


def told(tmp_path, script: str):
    """What a script says of the pack's modules, which lie where the page has them."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    shutil.copytree(ROOT / "web", tmp_path / "extensions" / "pack")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "app.js").write_text(APP, encoding="utf-8")
    (tmp_path / "scripts" / "api.js").write_text(API, encoding="utf-8")
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (tmp_path / "main.js").write_text(IMPORTS + script, encoding="utf-8")
    ran = subprocess.run(
        [node, "main.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_nodes_of_a_workflow_that_was_left_ask_nothing_any_more(tmp_path):
    """Also those inside a subgraph: each run would ask the server for every one there ever was."""
    script = (
        GRAPHS
        + """
    open("first");
    const first = run();
    open("second");
    console.log(JSON.stringify([first, run(), run()]));
    """
    )
    second = ["second: outside", "second: inside"]
    assert told(tmp_path, script) == [["first: outside", "first: inside"], second, second]


@pytest.mark.parametrize("name", ["captureCanvasState", "checkState"])
def test_a_choice_in_a_box_is_a_change_that_the_page_knows_at_once(tmp_path, name):
    """A click comes after the mouse button's end, where the page looks for changes by itself."""
    script = f"""
    const told = [];
    const widget = {{ value: "before", callback: (value) => told.push(value) }};
    const changeTracker = {{ {name}: () => told.push(`kept with ${{widget.value}}`) }};
    choose({{}}, widget, "alone");
    app.extensionManager = {{ workflow: {{ activeWorkflow: {{ changeTracker }} }} }};
    choose({{}}, widget, "after");
    console.log(JSON.stringify(told));
    """
    assert told(tmp_path, script) == ["alone", "after", "kept with after"]
