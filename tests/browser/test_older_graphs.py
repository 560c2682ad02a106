"""A graph that was saved with an earlier version of the pack opens with all that it said, and runs.

older/attndreambooth.json is the pack's first workflow as it was saved on 2026-11-23: before
*Training Options*' sockets on the stages, captions, masks, kept latents, Save Concept's precision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.server import HostServer

from attndreambooth.devkit.checkpoints import make_checkpoint
from attndreambooth.devkit.photos import write_photos

pytestmark = [pytest.mark.host, pytest.mark.browser]

FIRST = Path(__file__).parent / "older" / "attndreambooth.json"
SMALL = {
    **{"steps": 2, "batch_size": 2, "resolution": 64, "width": 64, "height": 64},
    "name": "from-an-older-graph",
}
"""Widgets by name: small enough to run here."""
SET = """(values) => {
    for (const widget of app.graph._nodes.flatMap(node => node.widgets ?? [])) {
        if (widget.name in values) widget.value = values[widget.name];
    }
}"""


@pytest.fixture
def older() -> dict[str, Any]:
    return json.loads(FIRST.read_text(encoding="utf-8"))


def said(node: dict[str, Any]) -> dict[str, Any]:
    """Values of a saved node's widgets by their names, as the file itself has both."""
    names = [slot["widget"]["name"] for slot in node["inputs"] if "widget" in slot]
    values = list(node.get("widgets_values", []))
    if node["type"] == "KSampler":
        del values[1]  # of "control after generate", which is no input
    return dict(zip(names, values, strict=True))


def wired(workflow: dict[str, Any]) -> set[tuple[int, int, int, str]]:
    """Wires as (from, output, to, name of the input)."""
    by_id = {node["id"]: node for node in workflow["nodes"]}
    return {
        (origin, output, target, by_id[target]["inputs"][slot]["name"])
        for _, origin, output, target, slot, _ in workflow["links"]
    }


def test_every_node_value_and_wire_of_an_older_graph_is_there(front_end, server, older):
    assert front_end.missing_nodes(older) == []
    front_end.load(older)
    assert front_end.errors == []
    opened = front_end.graph()
    assert wired(opened) == wired(older)
    types = {str(node["id"]): node["type"] for node in older["nodes"]}
    prompt, known = front_end.prompt(), server.object_info()
    for node in (n for n in older["nodes"] if types[str(n["id"])] in known):
        inputs = prompt[str(node["id"])]["inputs"]
        assert inputs.items() >= said(node).items(), node["type"]
    stage = prompt[next(key for key, kind in types.items() if "Stage3" in kind)]["inputs"]
    assert (stage["steps"], stage["learning_rate"], stage["latent_pool"]) == (500, 2e-6, 0)
    [kept] = [one["inputs"] for key, one in prompt.items() if types[key] == "AttnDBSaveConcept"]
    assert kept["precision"] == "as trained"  # a widget that came later: its default


def test_an_older_graph_runs_in_the_page(front_end, server: HostServer, older):
    checkpoint = server.base / "models" / "checkpoints" / older["nodes"][0]["widgets_values"][0]
    checkpoint.symlink_to(make_checkpoint("sd15"))
    write_photos(server.base / "input" / "my-subject", 3)
    try:
        front_end.load(older)
        front_end.page.evaluate(SET, SMALL)
        front_end.run(300)
        assert front_end.errors == []
    finally:
        checkpoint.unlink()
    assert list((server.base / "output").glob("attndreambooth_*.png"))
    saved = server.base / "models" / "loras" / f"{SMALL['name']}.safetensors"
    assert saved.is_file()
