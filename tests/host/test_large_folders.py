"""Folders of thousands in a real server: refused at once with the count, and Cancel is obeyed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.graph import Graph
from support.outcome import ExecutionFailed, Interrupted
from support.server import HostServer

pytestmark = pytest.mark.host

PATIENCE_S = 60
"""Far more than it takes, and far less than what a scan without a bound took: the machine may be
busy with something else."""


def show(folder: str, **changes) -> tuple[dict, str]:
    """The photos of a folder, shown; and the id of the node that reads them."""
    graph = Graph()
    values = {"category": "dog", "placeholder": "<my-dog>", "template": "a photo of a {}"}
    data = graph.add(
        "AttnDBLoadConceptDataset",
        **{"folder": "(typed path)", "path": folder, "skip_broken": False, **values, **changes},
    )
    graph.add("PreviewImage", images=data[1])
    return graph.prompt, data.id


def many(folder: Path, count: int, suffix: str) -> None:
    """So many files that are one, where the system lets them."""
    first = folder / f"first{suffix}"
    for number in range(count - 1):
        try:
            os.link(first, folder / f"{number}{suffix}")
        except OSError:  # too many links of one file
            (folder / f"{number}{suffix}").write_bytes(first.read_bytes())


@pytest.fixture(scope="module")
def inputs(server: HostServer) -> Path:
    return server.base / "input"


@pytest.mark.parametrize(
    ("count", "told"), [(5000, " 5,000 files"), (20_000, " more than 10,000 files")]
)
def test_thousands_of_pictures_are_refused_with_the_count(server, inputs, count, told):
    folder = inputs / f"pictures-{count}"
    folder.mkdir()
    Image.new("RGB", (32, 32), "red").save(folder / "first.png")
    many(folder, count, ".png")
    start = time.monotonic()
    with pytest.raises(ExecutionFailed) as caught:
        server.run(show(folder.name)[0])
    assert time.monotonic() - start < PATIENCE_S
    assert told in caught.value.message and "at most 500 are read" in caught.value.message
    assert len(caught.value.message) < 1000


def test_an_error_about_hundreds_of_texts_is_short(server, inputs):
    folder = inputs / "texts"
    folder.mkdir()
    Image.new("RGB", (32, 32), "red").save(folder / "a.png")
    (folder / "first.txt").write_text("no picture")
    many(folder, 400, ".txt")
    with pytest.raises(ExecutionFailed) as caught:
        server.run(show(folder.name)[0])
    assert len(caught.value.message) < 1000 and "and 395 more" in caught.value.message


@pytest.mark.skipif(sys.platform == "win32", reason="not all systems have links")
def test_cancel_ends_the_reading_of_a_folder_where_it_is(server, inputs):
    folder = inputs / "slow"
    folder.mkdir()
    grain = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    Image.fromarray(grain).save(folder / "first.png")
    many(folder, 300, ".png")
    prompt, reader = show(folder.name)

    def cancel(event):
        if event["type"] == "executing" and event["data"].get("node") == reader:
            server.interrupt()

    with pytest.raises(Interrupted) as caught:
        server.run(prompt, on_event=cancel)
    assert caught.value.node_id == reader, "only the host stopped, between two nodes"


def test_of_hundreds_of_photos_the_strip_is_bounded(server, inputs):
    folder = inputs / "strip"
    folder.mkdir()
    for number in range(400):
        Image.new("RGB", (32, 24), (number % 256, number // 256, 7)).save(folder / f"{number}.png")
    outcome = server.run(show(folder.name)[0])
    [shown] = [output["images"][0] for output in outcome.outputs.values()]
    path = server.base / "temp" / shown["subfolder"] / shown["filename"]
    with Image.open(path) as strip:
        assert strip.width * strip.height < 4_000_000


def test_the_nodes_are_listed_quickly_beside_a_hundred_thousand_files(server, inputs):
    """They lie flat below input/, which the host's own Load Image lists, too."""
    folder = inputs / "pile"
    folder.mkdir()
    for number in range(100_000):
        (folder / f"{number}.png").touch()
    start = time.monotonic()
    info = server.get("/object_info/AttnDBLoadConceptDataset", timeout=PATIENCE_S)
    first = time.monotonic() - start
    assert first < PATIENCE_S
    assert "pile" in str(info["AttnDBLoadConceptDataset"]["input"]["required"]["folder"])
    start = time.monotonic()
    server.get("/object_info/AttnDBLoadConceptDataset", timeout=PATIENCE_S)
    assert time.monotonic() - start < 10
