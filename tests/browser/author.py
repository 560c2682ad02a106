"""Make a workflow file of an API prompt, laid out on purpose, through the real front end.

    .venv/bin/python tests/browser/author.py SPEC.json workflows/NAME.json

SPEC.json is an API prompt, or an object with
    "prompt"  the API prompt; `"_meta": {"title": ...}` in a node names it
    "groups"  [{"title", "nodes": [ids], "row": 0, "color": "#...", "columns": {id: column}}]
    "sizes"   {id: [width, height]}
    "notes"   [{"text": "markdown", "group": "title of a group", "size": [width, height]}]
Next to the workflow its picture is written (same name, .jpg), as the template browser wants it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.frontend import FrontEnd, browser_page, find_chromium
from support.layout import Group, arrange, overlaps
from support.server import HostServer

NOTE_SIZE = [360, 200]
NOTE_COLORS = {"color": "#432", "bgcolor": "#000"}
KEPT = ("id", "revision", "last_node_id", "last_link_id", "nodes", "links", "groups", "version")


def author(front_end: FrontEnd, spec: dict[str, Any]) -> dict[str, Any]:
    """The workflow (as the front end would save it) of a spec; see the head of this file."""
    if "prompt" not in spec:
        spec = {"prompt": spec}
    front_end.load_prompt(spec["prompt"])
    workflow = front_end.graph()
    groups = [
        Group(**{**g, "columns": {int(k): v for k, v in g.get("columns", {}).items()}})
        for g in spec.get("groups", [])
    ]
    for node in workflow["nodes"]:
        if str(node["id"]) in spec.get("sizes", {}):
            node["size"] = spec["sizes"][str(node["id"])]
        node["widgets_values"] = [
            "fixed" if value == "randomize" else value for value in node.get("widgets_values", [])
        ]
    for note in spec.get("notes", []):
        workflow["last_node_id"] += 1
        workflow["nodes"].append(_note(workflow["last_node_id"], note))
        next(g for g in groups if g.title == note["group"]).nodes.append(workflow["last_node_id"])
    arrange(workflow, groups)
    assert not overlaps(workflow), overlaps(workflow)
    front_end.load(workflow)
    saved = front_end.graph()
    for node in saved["nodes"]:
        for part in (node, *node.get("inputs", []), *node.get("outputs", [])):
            for key in [k for k, v in part.items() if v is None and k not in ("link", "links")]:
                del part[key]
    return {**{key: saved[key] for key in KEPT if key in saved}, "extra": {}}


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
    parser.add_argument("spec", type=Path)
    parser.add_argument("workflow", type=Path)
    arguments = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        print("no Chromium found: install one, or set ATTNDB_CHROMIUM to its program")
        return 1
    spec = json.loads(arguments.spec.read_text(encoding="utf-8"))
    with (
        tempfile.TemporaryDirectory() as base,
        HostServer(Path(base)) as server,
        browser_page(chromium) as page,
    ):
        front_end = FrontEnd(page)
        front_end.open(server.address)
        workflow = author(front_end, spec)
        text = json.dumps(workflow, indent=1, ensure_ascii=True) + "\n"
        arguments.workflow.write_text(text, encoding="utf-8", newline="\n")
        front_end.picture(arguments.workflow.with_suffix(".jpg"))
    print(f"{arguments.workflow} and {arguments.workflow.with_suffix('.jpg')} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
