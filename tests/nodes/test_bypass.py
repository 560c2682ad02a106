"""Bypass and mute of every node of ours. For the server both are the same: the node is not in the
prompt. What stood behind it gets an input of the bypassed node, of the output's type, or nothing;
docs/chaining.md has it for every node, and what it leads to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.workflow import WIDGET_TYPES, stand_in

from attndreambooth.devkit.pack import ROOT

pytestmark = pytest.mark.host

DOCUMENT = ROOT / "docs" / "chaining.md"
NOTHING = "nothing"


@pytest.fixture(scope="module")
def nodes(host) -> dict[str, Any]:
    """The nodes as the server tells the page of them, by their titles."""
    from attndreambooth.nodes import all_nodes

    told = (node.GET_NODE_INFO_V1() for node in all_nodes())
    return {info["display_name"]: info for info in told}


def as_saved(info: dict[str, Any]) -> dict[str, Any]:
    """A node in a saved graph, everything connected: sockets first, as the page has them. The
    number of a link is the name of its input; a widget has none."""
    inputs = []
    for name, (kind, *options) in sockets(info):
        if kind == "COMFY_AUTOGROW_V3":  # one input for each of a list of them
            [(name, (kind, *_))] = options[0]["template"]["input"]["required"].items()
        inputs.append({"name": name, "type": kind, "link": name})
    named = zip(info["output_name"], info["output"], strict=True)
    return {"inputs": inputs, "outputs": [{"name": name, "type": kind} for name, kind in named]}


def sockets(info: dict[str, Any], groups: tuple[str, ...] = ("required", "optional")) -> list[Any]:
    """Names and descriptions of the inputs that are no widgets."""
    given = [item for group in groups for item in info["input"].get(group, {}).items()]
    widgets = (*WIDGET_TYPES, "COMFY_DYNAMICCOMBO_V3")
    return [(n, spec) for n, spec in given if spec[0] not in widgets and isinstance(spec[0], str)]


def passed(info: dict[str, Any]) -> str:
    """What a bypass puts in the place of which output, as the table writes it."""
    node = as_saved(info)
    found = [(out["name"], stand_in(node, slot)) for slot, out in enumerate(node["outputs"])]
    told = [out if out == given else f"{out}: {given}" for out, given in found if given]
    return ", ".join(told) or NOTHING


def table() -> dict[str, list[str]]:
    """The rows of the document's table, by the node's title."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("| Node | A bypass")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\| [*]", line)
    ]
    return {title.strip("*"): rest for title, *rest in rows}


def test_the_table_has_every_node_and_what_passes_through_it(nodes):
    expected = {title: passed(info) for title, info in nodes.items()}
    assert {title: row[0] for title, row in table().items()} == expected


def test_the_table_says_what_it_leads_to(nodes):
    assert [title for title, row in table().items() if len(row[1]) < 10] == []


def test_what_may_be_left_out_unnoticed_is_in_the_document(nodes):
    """An optional socket is what a muted node leaves empty without a word of the host."""
    silent = {
        re.sub(r"_\d+$", "", name)
        for info in nodes.values()
        for name, _ in sockets(info, ("optional",))
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    [line] = re.findall(r"Optional inputs are (.*?)\.", text, re.DOTALL)
    assert set(re.findall(r"[*](\w+)[*]", line)) == silent


@pytest.mark.parametrize("title", ["Apply Concept", "Stage 3: Train U-Net"])
def test_model_and_clip_pass_without_the_concept(nodes, title):
    """The one that gives something wrong without a word: said in words in its row."""
    assert {"model", "clip"} <= set(passed(nodes[title]).split(", "))
    assert "plain text" in table()[title][1]


def test_a_stage_that_is_left_out_hands_its_concept_on(run, chain, sd15, train):
    """Stage 1, then stage 3: what a bypassed stage 2 leaves in the prompt."""
    one, _, _ = chain
    skipped = train(3, sd15, one)[0]
    assert [stage["stage"] for stage in skipped.record["stages"]] == [1, 3]
