"""Where the nodes of a workflow lie: groups side by side, columns inside them, nothing overlaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TITLE = 30  # height of a node's title bar, which lies above its position
GAP_X, GAP_Y = 70, 30
PADDING, HEADING = 24, 60  # inside a group's box; HEADING holds its title
BETWEEN = 60  # between groups


@dataclass(kw_only=True)
class Group:
    """A titled box around some nodes."""

    title: str
    nodes: list[int]
    """Ids; nodes of one column are stacked in this order."""
    row: int = 0
    """Rows of groups from the top; in a row groups lie in the order of the list."""
    color: str = "#7f9fb0"
    columns: dict[int, int] = field(default_factory=dict)
    """Column (from 0) of nodes that should not lie where their wires put them."""


def depths(nodes: list[int], links: list[tuple[int, int]]) -> dict[int, int]:
    """Length of the longest chain of wires among `nodes` that ends in each of them."""
    found: dict[int, int] = {}

    def depth(node: int) -> int:
        if node not in found:
            found[node] = 0  # a cycle, which a prompt cannot have, would end here
            before = [depth(a) + 1 for a, b in links if b == node and a in nodes]
            found[node] = max(before, default=0)
        return found[node]

    return {node: depth(node) for node in nodes}


def arrange(
    workflow: dict[str, Any], groups: list[Group], room: dict[int, float] | None = None
) -> None:
    """Give every node of a saved graph its position, and the graph its groups, in place.

    `room`: pixels left free below a node, for what it shows while it runs. Sizes are taken as they
    are. Nodes in no group go to a last row of their own, without a box.
    Raises ValueError if a group names a node that is not there, or one node is in two groups.
    """
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for node in by_id.values():
        node["room"] = (room or {}).get(node["id"], 0)
    links = [(link[1], link[3]) for link in workflow["links"]]
    placed = [node for group in groups for node in group.nodes]
    if unknown := sorted(set(placed) - set(by_id)):
        raise ValueError(f"groups name nodes that the workflow lacks: {unknown}")
    if len(placed) != len(set(placed)):
        raise ValueError("a node is in two groups")
    rest = [node for node in by_id if node not in placed]
    last = max((group.row for group in groups), default=-1) + 1
    everything = [*groups, *([Group(title="", nodes=rest, row=last)] if rest else [])]

    workflow["groups"] = []
    y = 0.0
    for row in sorted({group.row for group in everything}):
        x = tallest = 0.0
        for group in (g for g in everything if g.row == row):
            width, height = _place(group, by_id, links, x, y)
            if group.title:
                workflow["groups"].append(
                    {
                        "id": len(workflow["groups"]) + 1,
                        "title": group.title,
                        "bounding": [x, y, width, height],
                        "color": group.color,
                        "font_size": 24,
                        "flags": {},
                    }
                )
            x += width + BETWEEN
            tallest = max(tallest, height)
        y += tallest + BETWEEN
    for node in by_id.values():
        del node["room"]


def _place(
    group: Group, by_id: dict[int, Any], links: list[tuple[int, int]], left: float, top: float
) -> tuple[float, float]:
    """Position a group's nodes from its upper left corner; return its width and height."""
    columns = {**depths(group.nodes, links), **group.columns}
    x, lowest = left + PADDING, top + HEADING
    for column in sorted(set(columns.values())):
        y, widest = top + HEADING, 0.0
        for node in (by_id[key] for key in group.nodes if columns[key] == column):
            width, height = node["size"]
            node["pos"] = [x, y + TITLE]
            y += TITLE + height + node["room"] + GAP_Y
            widest = max(widest, width)
        x += widest + GAP_X
        lowest = max(lowest, y - GAP_Y)
    return x - GAP_X + PADDING - left, lowest + PADDING - top


def overlaps(workflow: dict[str, Any]) -> list[tuple[int, int]]:
    """Pairs of nodes whose boxes, title bars included, share some area."""
    boxes = []
    for node in workflow["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes.append((node["id"], x, y - TITLE, x + width, y + height))
    return overlapping(boxes)


def overlapping(boxes: list[tuple[int, float, float, float, float]]) -> list[tuple[int, int]]:
    """Pairs of ids whose boxes (id, left, top, right, bottom) share some area."""
    return [
        (a[0], b[0])
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
        if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
    ]
