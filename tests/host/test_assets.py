"""A server started with `--enable-assets`: its asset browser has what Save Concept wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from support.graph import Graph
from support.pictured import pictured
from support.server import HostServer

from attndreambooth.attndb.artifacts.concept_files import concept_files
from attndreambooth.attndb.artifacts.tensor_file import write_whole
from attndreambooth.devkit.host_path import host_root, on_cpu

pytestmark = [pytest.mark.host, pytest.mark.slow]

KINDS = ("embeddings", "loras")


@pytest.fixture(scope="module")
def with_assets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    """The server, with one concept among its models that Load Concept lists."""
    if "--enable-assets" not in (host_root() / "comfy/cli_args.py").read_text(encoding="utf-8"):
        pytest.skip("this host has no such switch")
    base = tmp_path_factory.mktemp("assets")
    arguments = (*(("--cpu",) if on_cpu() else ()), "--enable-assets")
    server = HostServer(base, arguments=arguments)
    paths = [base / "models" / kind / "first.safetensors" for kind in KINDS]
    write_whole(concept_files(pictured(), "first", *paths))
    with server:
        yield server


def save(server: HostServer, name: str, metadata: str) -> None:
    graph = Graph()
    concept = graph.add("AttnDBLoadConcept", name="first")
    graph.add("AttnDBSaveConcept", concept=concept[0], name=name, metadata=metadata)
    server.run(graph.prompt)


def scanned(server: HostServer, name: str) -> dict[str, dict]:
    """What the browser is told of the files of this name after a scan: by kind of model."""
    for _ in range(120):  # the scan of the start may still be running
        status, body = server.request("/api/assets/seed?wait=true", {"roots": ["models"]})
        if status != 409:
            break
        time.sleep(0.5)
    assert status == 200 and json.loads(body)["status"] == "completed", body
    assert not json.loads(body).get("errors"), body
    assets = server.get(f"/api/assets?name_contains={name}&limit=50")["assets"]
    found = {}
    for asset in assets:
        if asset["name"] == f"{name}.safetensors":
            [kind] = [k for k in KINDS if k in asset["tags"] or f"model_type:{k}" in asset["tags"]]
            found[kind] = asset
    return found


def told(asset: dict) -> dict:
    """What was read from the file; older hosts give it in the field for the user's own."""
    return {**asset.get("user_metadata", {}), **(asset.get("metadata") or {})}


def test_both_files_are_there_with_words_base_model_and_size(with_assets):
    save(with_assets, "listed", "for managers")
    found = scanned(with_assets, "listed")
    assert sorted(found) == sorted(KINDS)
    for kind, asset in found.items():
        path = with_assets.base / "models" / kind / "listed.safetensors"
        read = told(asset)
        assert asset["size"] == path.stat().st_size and "models" in asset["tags"]
        assert read["trained_words"] == ["<my-robot> robot"]
        assert read["base_model"] == "sd_v1"
        assert read["has_preview_images"] is True


def test_of_a_plain_record_the_files_alone_are_there(with_assets):
    save(with_assets, "unlisted", "record")
    found = scanned(with_assets, "unlisted")
    assert sorted(found) == sorted(KINDS)
    for asset in found.values():
        assert not {"trained_words", "base_model", "has_preview_images"} & set(told(asset))
