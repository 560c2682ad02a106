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


PAGE = """
class Box {
  constructor() {
    const style = { setProperty() {} };
    Object.assign(this, { classList: { toggle() {} }, style, children: [] });
  }
  append() {}
  addEventListener() {}
  replaceChildren(...children) { this.children = children; }
}
globalThis.document = { createElement: () => new Box(), getElementById: () => true,
  querySelectorAll: () => [] };
let extension;
app.registerExtension = (given) => { extension = given; };
const asked = [];
api.apiURL = (address) => address;
api.fetchApi = async (address) => {
  asked.push(address);
  const photos = [{ name: "a.jpg", version: "1" }];
  const input = { required: { folder: [["typed", "dog"]] } };
  const info = { AttnDBLoadConceptDataset: { input } };
  const said = address.includes("object_info") ? info : { photos, count: 1, error: "" };
  return { ok: true, json: async () => said };
};
await import("./extensions/pack/photos.js");
const widgets = [{ name: "folder", value: "typed", options: {} }, { name: "path", value: "" }];
const node = { comfyClass: "AttnDBLoadConceptDataset", id: 1, widgets, size: [1, 1], inputs: [],
  computeSize: () => [1, 1], setSize() {}, addDOMWidget: (name, type, box) => ({ box }) };
"""


def test_a_dataset_node_that_is_opened_asks_for_its_photos_once(tmp_path):
    """The page tells a node of its values and wires one by one, in several turns."""
    script = (
        PAGE
        + """
    extension.nodeCreated(node);
    widgets[0].value = "dog";
    for (let turn = 0; turn < 4; turn++) {
      node.onConfigure();
      widgets.forEach((widget) => widget.callback(widget.value));
      node.onConnectionsChange();
      await new Promise((done) => setTimeout(done));
    }
    await new Promise((done) => setTimeout(done, 300));
    const first = asked.splice(0).filter((address) => address.includes("/photos?"));
    widgets[0].value = "cat";
    widgets[0].callback("cat");
    await new Promise((done) => setTimeout(done, 300));
    console.log(JSON.stringify([first, asked]));
    """
    )
    first, then = told(tmp_path, script)
    assert first == ["/attndreambooth/photos?folder=dog"]
    assert then == ["/attndreambooth/photos?folder=cat"]


def test_a_heic_is_sent_where_the_server_reads_it_and_else_refused_with_the_remedy(tmp_path):
    """No browser but Safari could say whether it is a picture: the server does."""
    script = (
        PAGE
        + """
    globalThis.createImageBitmap = async () => { throw new Error("not in this browser"); };
    let unread = { ".heic": "HEIC: install it" };
    const sent = [];
    const before = api.fetchApi;
    api.fetchApi = async (address, { body } = {}) => {
      if (address.includes("object_info")) return before(address);
      if (address.includes("upload")) sent.push(body.get("image").name);
      const suffixes = [".jpg", ...(unread[".heic"] ? [] : [".heic"])];
      const said = address.includes("photos") ? { suffixes, unread } : { folder: "dog" };
      return { ok: true, json: async () => said };
    };
    extension.nodeCreated(node);
    const heic = (name) => new File(["\\0\\0\\0\\x1cftypheic"], name);
    const files = [heic("a.HEIC"), heic("b.jpg"), new File(["some text, no photo"], "c.heic")];
    const box = [];
    const Says = Object.getPrototypeOf(document.createElement("span"));
    Object.defineProperty(Says, "textContent", { set(text) { box.push(text); } });
    const told = () => box.filter((text) => text.startsWith("Not taken"));
    for (unread of [unread, {}]) {
      const before = told().length;
      node.pasteFiles(files); // however slow the machine is
      while (told().length === before) await new Promise((done) => setTimeout(done, 20));
    }
    console.log(JSON.stringify([sent, told()]));
    """
    )
    sent, [without, with_reader] = told(tmp_path, script)
    said = [f"{name}: HEIC: install it" for name in ("a.HEIC", "b.jpg", "c.heic")]
    assert without == f"Not taken: {'; '.join(said)}"
    assert sent == ["a.HEIC", "b.jpg"]
    assert with_reader == "Not taken: c.heic: cannot be read as a picture"


@pytest.mark.parametrize("read", ["(found) => found([])", "(_, failed) => failed(new Error())"])
def test_a_dropped_folder_without_photos_of_its_own_or_that_cannot_be_read_is_told(tmp_path, read):
    """One of folders alone, or on a drive that is gone."""
    script = (
        PAGE
        + f"""
    const box = [];
    const Says = Object.getPrototypeOf(document.createElement("span"));
    Object.defineProperty(Says, "textContent", {{ set(text) {{ box.push(text); }} }});
    extension.nodeCreated(node);
    await new Promise((done) => setTimeout(done, 300));
    box.length = 0;
    const entry = {{ isDirectory: true, createReader: () => ({{ readEntries: {read} }}) }};
    const items = [{{ webkitGetAsEntry: () => entry }}];
    node.onDragDrop({{ dataTransfer: {{ types: ["Files"], items, files: [] }} }});
    await new Promise((done) => setTimeout(done, 300));
    console.log(JSON.stringify(box));
    """
    )
    said = "Nothing was taken: drop photos, or the folder that they lie in"
    assert told(tmp_path, script) == [said]


STAGE = """
class Button {
  constructor() { Object.assign(this, { disabled: false, textContent: "", children: [] }); }
  append(...children) { this.children = children; }
  addEventListener(_, press) { this.press = press; }
}
globalThis.document = { createElement: () => new Button(), getElementById: () => true };
let extension;
app.registerExtension = (given) => { extension = given; };
await import("./extensions/pack/end_stage.js");
extension.setup();
/** The graph as the page makes it anew, e.g. by Undo. */
function open() {
  const node = { comfyClass: "AttnDBAllStages", id: 5, widgets: [], size: [1, 1],
    computeSize: () => [1, 1], setSize() {},
    addDOMWidget(name, type, box) { this.widgets.push({ box }); return this.widgets.at(-1); } };
  node.graph = { nodes: [node], getNodeById: () => node };
  app.rootGraph = node.graph;
  return node;
}
function says(...lines) {
  const detail = { nodeId: "5", text: lines.join("\\n") };
  api.dispatchEvent(new CustomEvent("progress_text", { detail }));
}
const button = (node) => node.widgets[0]?.box.children[0];
"""


def test_the_button_that_ends_a_stage_comes_back_when_the_page_makes_its_node_anew(tmp_path):
    """Undo, or opening the workflow again, while a step takes its time."""
    script = (
        STAGE
        + """
    const before = open();
    says("step 1/9", "Stage 1 of 3", "loss 0.1");
    const after = open();
    says("step 2/9", "Stage 1 of 3", "loss 0.1");
    const there = after.widgets.length;
    says("done in 3 s");
    console.log(JSON.stringify([there, after.widgets.length]));
    """
    )
    assert told(tmp_path, script) == [1, 0]


def test_a_press_at_a_stages_last_step_leaves_the_next_stage_its_button(tmp_path):
    """It came too late to end anything, and nothing tells of it."""
    script = (
        STAGE
        + """
    api.fetchApi = async () => ({ ok: true });
    const node = open();
    says("step 3/9", "Stage 1 of 3", "loss 0.1");
    await button(node).press();
    says("step 3/9", "Stage 1 of 3", "loss 0.2");
    const pressed = button(node).disabled;
    says("step 4/9", "Stage 2 of 3", "loss 0.1");
    console.log(JSON.stringify([pressed, button(node).disabled, node.widgets.length]));
    """
    )
    assert told(tmp_path, script) == [True, False, 1]


def test_a_press_that_does_not_reach_the_server_says_so_and_can_be_repeated(tmp_path):
    script = (
        STAGE
        + """
    api.fetchApi = async () => { throw new TypeError("Failed to fetch"); };
    const node = open();
    says("step 3/9", "loss 0.1");
    await button(node).press();
    console.log(JSON.stringify([button(node).textContent, button(node).disabled]));
    """
    )
    assert told(tmp_path, script) == ["The server does not answer: try again", False]


def test_a_text_under_a_node_has_the_signs_that_the_page_shows(tmp_path):
    """Seen in the page as `write: &lt;my-robot&gt;`: it escapes what was escaped for older pages
    and for Nodes 2.0, which take a text for HTML and for Markdown."""
    script = """
    const { forPage, plain } = await import("./extensions/pack/plain_text.js");
    const sent = "write: &lt;my&#95;dog&gt; dog &#38;lt;";
    const shown = [];
    for (const vueNodesMode of [false, true]) {
      window.LiteGraph = { vueNodesMode };
      for (const version of [undefined, "1.47.12", "1.54.7", "1.54.8", "1.58.1", "2.0.0"]) {
        window.__COMFYUI_FRONTEND_VERSION__ = version;
        shown.push(forPage(sent) === sent ? "as sent" : forPage(sent));
      }
    }
    console.log(JSON.stringify([plain(sent), shown]));
    """
    was = "write: <my_dog> dog &lt;"
    always, shown = told(tmp_path, script)
    assert always == was
    assert shown == ["as sent"] * 3 + [was] * 3 + ["as sent"] * 6
