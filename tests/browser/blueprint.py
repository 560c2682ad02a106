"""Make the blueprint of the three stages, subgraphs/NAME.json, through the real front end.

    .venv/bin/python tests/browser/blueprint.py

It is the *Stage by stage* graph with its three stage nodes packed into one by the page itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from graphs import stages
from support.frontend import FrontEnd
from support.page import opened_page

from attndreambooth.devkit.pack import ROOT

NAME = "Three stages of AttnDreamBooth"
DESCRIPTION = "Learns a subject from photos: embedding, then attention map, then identity."
LABELS = {"seed": "seed of stage 1", "seed_1": "seed of stage 2", "seed_2": "seed of stage 3"}
PACK_UP = """(name) => {
    const stages = app.graph._nodes.filter(node => node.type.startsWith('AttnDBStage'));
    const {node} = app.graph.convertToSubgraph(new Set(stages));
    node.title = name;
    app.graph._nodes.filter(other => other !== node).forEach(other => app.graph.remove(other));
    [...app.graph._groups].forEach(group => app.graph.remove(group));
}"""


def blueprint(front_end: FrontEnd) -> dict[str, Any]:
    """A workflow that holds the packed node alone, as the page publishes one."""
    front_end.load_prompt(stages()["prompt"])
    front_end.page.evaluate(PACK_UP, NAME)
    saved = front_end.graph()
    [inside] = saved["definitions"]["subgraphs"]
    inside |= {"name": NAME, "category": "AttnDreamBooth", "description": DESCRIPTION}
    for slot in (*inside["inputs"], *saved["nodes"][0]["inputs"]):
        if slot["name"] in LABELS:
            slot["label"] = LABELS[slot["name"]]
    for node in inside["nodes"]:
        values = node.get("widgets_values", [])
        node["widgets_values"] = ["fixed" if v == "randomize" else v for v in values]
    kept = ("revision", "last_node_id", "last_link_id", "nodes", "links", "version", "definitions")
    return {**{key: saved[key] for key in kept}, "extra": {}}


def main() -> int:
    target = ROOT / "subgraphs" / f"{NAME}.json"
    with opened_page() as front_end:
        text = json.dumps(blueprint(front_end), indent=1, ensure_ascii=True) + "\n"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text, encoding="utf-8", newline="\n")
    print(f"{target} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
