"""What the server says about our nodes: all there, explained, and with a help page each."""

from __future__ import annotations

import pytest

from attndreambooth.devkit.pack import ROOT

pytestmark = pytest.mark.host

NODES = [
    "AttnDBLoadConceptDataset",
    "AttnDBConceptDatasetFromImages",
    "AttnDBAttentionMapRegularization",
    "AttnDBStage1LearnEmbedding",
    "AttnDBStage2TrainCrossAttention",
    "AttnDBStage3TrainUNet",
    "AttnDBAllStages",
    "AttnDBApplyConcept",
    "AttnDBSaveConcept",
    "AttnDBLoadConcept",
    "AttnDBImportConcept",
    "AttnDBExportToDiffusers",
]


@pytest.fixture(scope="module")
def ours(server) -> dict[str, dict]:
    """The pack's nodes as /object_info describes them."""
    everything = server.object_info()
    return {
        name: info
        for name, info in everything.items()
        if info.get("python_module") == "custom_nodes.attndreambooth"
    }


def untold(info: dict) -> list[str]:
    """Inputs and outputs of a node without a tooltip."""
    missing = []
    for group in ("required", "optional"):
        for name, spec in info["input"].get(group, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            if not (options.get("tooltip") or "").strip():
                missing.append(f"input {name}")
    tips = info.get("output_tooltips") or []
    for i, name in enumerate(info["output_name"]):
        if i >= len(tips) or not (tips[i] or "").strip():
            missing.append(f"output {name}")
    return missing


def test_every_node_of_the_main_job_is_there(ours):
    assert [name for name in NODES if name not in ours] == []


def test_every_node_is_ours_by_name_and_place(ours):
    for name, info in ours.items():
        assert name.startswith("AttnDB"), name
        assert info["category"].split("/")[0] == "AttnDreamBooth", (name, info["category"])
        assert info["display_name"], name
        assert len(info["description"]) > 20, name


def test_every_socket_and_widget_has_a_tooltip(ours):
    assert {name: untold(info) for name, info in ours.items() if untold(info)} == {}


def test_a_missing_tooltip_is_seen():
    info = {
        "input": {"required": {"a": ["INT", {}], "b": ["INT", {"tooltip": "said"}], "c": ["X"]}},
        "output_name": ["d", "e"],
        "output_tooltips": ["said"],
    }
    assert untold(info) == ["input a", "input c", "output e"]


def test_every_node_has_a_help_page_that_the_front_end_gets(ours, server):
    for name in ours:
        page = ROOT / "web" / "docs" / f"{name}.md"
        assert page.is_file(), f"web/docs/{name}.md is missing"
        status, body = server.request(f"/extensions/attndreambooth/docs/{name}.md")
        assert status == 200, name
        assert len(body) > 200, name
