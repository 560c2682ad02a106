"""Nodes that grow while they run lie over no other node, in the classic canvas and in Nodes 2.0."""

from __future__ import annotations

import json

import pytest
from support.layout import TITLE, overlapping, overlaps

from attndreambooth.devkit.pack import ROOT

pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.slow]

TOYS = (
    *("Teach a subject (toy model)", "Two concepts", "Prior images"),
    *("Compare stages", "Compare methods", "Which step was best"),
)
TRAINS = ("AttnDBAllStages", "AttnDBStage1LearnEmbedding")


def growing(front_end, name: str, vue: bool) -> list[tuple[int, float, float, float, float]]:
    """Boxes of all nodes of a shipped graph when its first training shows text and picture."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if "seed" in str(node.get("inputs")) and node["type"] in TRAINS:
            node["widgets_values"] = [7919 if v == 0 else v for v in node["widgets_values"][:2]] + (
                node["widgets_values"][2:]
            )
        if node["type"] == "EmptyLatentImage":  # class images are drawn before the training
            node["widgets_values"][2] = min(4, node["widgets_values"][2])
    front_end.load(workflow)
    front_end.start()
    try:
        front_end.wait_for_text("step ", seconds=900)
        front_end.page.wait_for_timeout(4000)  # the first live picture comes after two seconds
        boxes = front_end.settled_boxes(vue)
        front_end.cancel()
        # a later word would go to the node of that number in the next graph
        front_end.wait_for_text("kept at step", seconds=60)
        return boxes
    finally:
        front_end.cancel()


@pytest.mark.parametrize("name", TOYS)
def test_a_running_graph_has_no_overlap(front_end, renderer, name):
    boxes = growing(front_end, name, renderer)
    assert overlapping(boxes) == []
    assert front_end.errors == []
    if not renderer:
        assert overlaps(front_end.graph()) == []


def test_an_overlap_is_seen():
    assert overlapping([(1, 0, 0, 10, 10), (2, 5, 5, 15, 15), (3, 20, 0, 30, 10)]) == [(1, 2)]
    assert TITLE > 0
