"""Make a workflow file of an API prompt, laid out on purpose, through the real front end.

    .venv/bin/python tests/browser/author.py              all of graphs.py and specs/, to workflows/
    .venv/bin/python tests/browser/author.py SPEC.json workflows/NAME.json

A spec is an API prompt, or an object with
    "prompt"  the API prompt; `"_meta": {"title": ...}` in a node names it
    "groups"  [{"title", "nodes": [ids], "row": 0, "color": "#...", "columns": {id: column}}]
    "sizes"   {id: [width, height]}; a height of 0 is the front end's own
    "room"    {id: pixels} left free below a node, for what it shows while it runs
    "notes"   [{"text": "markdown", "group": "title of a group", "size": [width, height]}]
    "labels"  {id: {widget: what the page calls it}}
    "app"     {"inputs": [[id, widget]], "outputs": [ids]}: the form that the page shows of it
    "models"  {id: [{"name", "url", "directory"}]}, which the page offers to a user who lacks them
The workflow's picture (same name, .jpg) is made by result.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from graphs import GRAPHS
from support.frontend import FrontEnd
from support.layout import Group, arrange, overlaps
from support.page import opened_page
from support.workflow import DYNAMIC_COMBO, default_of, dynamic_options

from attndreambooth.devkit.pack import ROOT

NOTE_SIZE = [360, 200]
NOTE_COLORS = {"color": "#432", "bgcolor": "#000"}
KEPT = ("id", "revision", "last_node_id", "last_link_id", "nodes", "links", "groups", "version")


def author(front_end: FrontEnd, spec: dict[str, Any]) -> dict[str, Any]:
    """The workflow (as the front end would save it) of a spec; see the head of this file."""
    if "prompt" not in spec:
        spec = {"prompt": spec}
    front_end.load_prompt(whole(spec["prompt"], front_end.object_info()))
    workflow = front_end.graph()
    groups = [
        Group(**{**g, "columns": {int(k): v for k, v in g.get("columns", {}).items()}})
        for g in spec.get("groups", [])
    ]
    for node in workflow["nodes"]:
        if str(node["id"]) in spec.get("sizes", {}):
            width, height = spec["sizes"][str(node["id"])]
            node["size"] = [width, height or list(node["size"])[1]]
        if models := spec.get("models", {}).get(str(node["id"])):
            node.setdefault("properties", {})["models"] = models
        for widget in node.get("inputs", []):
            if label := spec.get("labels", {}).get(str(node["id"]), {}).get(widget["name"]):
                widget["label"] = label
        node["widgets_values"] = [
            "fixed" if value == "randomize" else value for value in node.get("widgets_values", [])
        ]
    for note in spec.get("notes", []):
        workflow["last_node_id"] += 1
        workflow["nodes"].append(_note(workflow["last_node_id"], note))
        group = next(g for g in groups if g.title == note["group"])
        group.nodes.insert(0, workflow["last_node_id"])  # where eyes start
        group.columns[workflow["last_node_id"]] = 0
    room = {int(node): pixels for node, pixels in spec.get("room", {}).items()}
    arrange(workflow, groups, room)
    assert not overlaps(workflow), overlaps(workflow)
    front_end.load(workflow)
    saved = front_end.graph()
    for node in saved["nodes"]:
        for part in (node, *node.get("inputs", []), *node.get("outputs", [])):
            for key in [k for k, v in part.items() if v is None and k not in ("link", "links")]:
                del part[key]
    extra = {"linearData": spec["app"], "linearMode": True} if "app" in spec else {}
    return {**{key: saved[key] for key in KEPT if key in saved}, "extra": extra}


def whole(prompt: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The prompt with every widget's default where it says nothing: the front end would leave the
    value that a node of the same id had in the graph before."""
    found = {}
    for key, node in prompt.items():
        named = info[node["class_type"]]["input"]
        known: dict[str, Any] = {}
        specs = named.get("required", {}) | named.get("optional", {})
        for name, spec in list(specs.items()):
            if spec[0] == DYNAMIC_COMBO:
                known[name] = default_of(spec)
                below = dynamic_options(spec, node["inputs"].get(name))
                specs |= {f"{name}.{own}": one for own, one in below.items()}
                specs.pop(name)
        for name, spec in specs.items():
            kind, options = spec[0], spec[1] if len(spec) > 1 else {}
            choices = kind if isinstance(kind, list) else options.get("options", [])
            value = options.get("default", choices[0] if choices else None)
            if value is not None:
                known[name] = value
        found[key] = {**node, "inputs": {**known, **node["inputs"]}}
    return found


def _note(key: int, note: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": key,
        "type": "MarkdownNote",
        "title": note.get("title", "Note"),
        "pos": [0, 0],
        "size": note.get("size", NOTE_SIZE),
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [note["text"]],
        **NOTE_COLORS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("spec", type=Path, nargs="?", help="default: all of them")
    parser.add_argument("workflow", type=Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.spec is None:
        wanted = {ROOT / "workflows" / f"{name}.json": make() for name, make in GRAPHS.items()}
        for path in sorted((ROOT / "tests/browser/specs").glob("*.json")):
            wanted[ROOT / "workflows" / path.name] = json.loads(path.read_text(encoding="utf-8"))
    else:
        wanted = {arguments.workflow: json.loads(arguments.spec.read_text(encoding="utf-8"))}
    with opened_page() as front_end:
        for path, spec in wanted.items():
            text = json.dumps(author(front_end, spec), indent=1, ensure_ascii=True) + "\n"
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"{path} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
