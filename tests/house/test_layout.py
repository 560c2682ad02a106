"""Workflows are laid out in groups and columns, and no two nodes overlap."""

from __future__ import annotations

import pytest
from support.layout import PADDING, TITLE, Group, arrange, overlaps


def workflow(sizes: dict[int, tuple[int, int]], wires: list[tuple[int, int]]) -> dict:
    return {
        "nodes": [{"id": k, "pos": [0, 0], "size": list(size)} for k, size in sizes.items()],
        "links": [[i, a, 0, b, 0, "X"] for i, (a, b) in enumerate(wires)],
    }


SIZES = {1: (200, 100), 2: (300, 400), 3: (100, 50), 4: (250, 80), 5: (90, 90)}
WIRES = [(1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]


def test_nodes_that_lie_on_each_other_are_seen():
    assert len(overlaps(workflow(SIZES, WIRES))) == 10


def test_an_arranged_graph_overlaps_nowhere_and_its_groups_hold_their_nodes():
    graph = workflow(SIZES, WIRES)
    groups = [Group(title="a", nodes=[1, 2, 3]), Group(title="b", nodes=[4], row=1)]
    arrange(graph, groups)
    assert overlaps(graph) == []
    nodes = {node["id"]: node for node in graph["nodes"]}
    for group, box in zip(groups, graph["groups"], strict=True):
        left, top, width, height = box["bounding"]
        for node in (nodes[key] for key in group.nodes):
            assert node["pos"][0] >= left + PADDING
            assert node["pos"][1] >= top + TITLE
            assert node["pos"][0] + node["size"][0] <= left + width - PADDING
            assert node["pos"][1] + node["size"][1] <= top + height - PADDING


def test_wires_run_from_left_to_right_inside_a_group():
    graph = workflow(SIZES, WIRES)
    arrange(graph, [Group(title="a", nodes=[5, 4, 3, 2, 1])])
    x = {node["id"]: node["pos"][0] for node in graph["nodes"]}
    assert all(x[a] < x[b] for a, b in WIRES)
    assert x[2] == x[3]


def test_a_group_of_a_missing_node_is_refused():
    with pytest.raises(ValueError, match=r"\[9\]"):
        arrange(workflow(SIZES, WIRES), [Group(title="a", nodes=[9])])
    with pytest.raises(ValueError, match="two groups"):
        arrange(workflow(SIZES, WIRES), [Group(title=t, nodes=[1]) for t in "ab"])
