"""Two servers on one models folder: what they save under one new name at one moment is all kept."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.graph import Graph
from support.server import HostServer

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import concept_files
from attndreambooth.attndb.artifacts.tensor_file import write_whole

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="folders are shared by a link"),
]

RACES = 8
WEIGHT = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
VALUES = {"left": 1.0, "right": 2.0}
"""What all numbers of a concept are, by the server that has it."""


def written(models: Path, name: str) -> None:
    """A concept of large weights in the shared folder: writing it takes a while."""
    value = VALUES[name]
    concept = TrainedConcept(
        placeholder=f"<{name}>",
        category="dog",
        text_key="clip_l",
        vectors=torch.full((1, 768), value),
        delta={WEIGHT: torch.full((4096, 1024), value)},
        base_family="SD 1.5",
    )
    paths = [models / kind / f"{name}.safetensors" for kind in ("embeddings", "loras")]
    write_whole(concept_files(concept, name, *paths))


@pytest.fixture(scope="module")
def servers(
    server: HostServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, HostServer]]:
    """By what they have: two servers, one models folder."""
    base = tmp_path_factory.mktemp("right")
    (base / "models").symlink_to(server.base / "models")
    before = set(server.base.glob("models/*/*"))
    for name in VALUES:
        written(server.base / "models", name)
    with HostServer(base) as right:
        yield {"left": server, "right": right}
    for path in set(server.base.glob("models/*/*")) - before:
        path.unlink()


def raced(servers: dict[str, HostServer], loaded: dict[str, str], name: str) -> dict[str, str]:
    """Both save what they loaded under one name, let off together; the names they report."""
    start, reported = threading.Barrier(len(servers)), {}

    def save(side: str) -> None:
        graph = Graph()
        concept = graph.add("AttnDBLoadConcept", name=loaded[side])
        saved = graph.add("AttnDBSaveConcept", concept=concept[0], name=name)
        shown = graph.add("PreviewAny", source=saved[0])
        start.wait()
        reported[side] = servers[side].run(graph.prompt).outputs[shown.id]["text"][0]

    racers = [threading.Thread(target=save, args=[side]) for side in servers]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    return reported


def values_of(models: Path, name: str) -> set[float]:
    """All numbers of a saved concept, of both its files."""
    files = [models / kind / f"{name}.safetensors" for kind in ("embeddings", "loras")]
    tensors = [tensor for file in files for tensor in load_file(file).values()]
    assert len(tensors) >= 2
    return {float(value) for tensor in tensors for value in tensor.unique()}


def test_of_two_that_save_one_new_name_at_once_both_are_kept_whole(servers):
    models = servers["left"].base / "models"
    before = set(models.glob("*/*"))
    for number in range(RACES):
        name = f"race-{number}"
        reported = raced(servers, {side: side for side in VALUES}, name)
        assert sorted(reported.values()) == [name, f"{name}-2"]
        for side, saved in reported.items():
            assert values_of(models, saved) == {VALUES[side]}, f"{saved} is not what was reported"
    made = [path.parent.name for path in set(models.glob("*/*")) - before]
    for kind in ("embeddings", "loras"):
        assert made.count(kind) == 2 * RACES, "nothing else, and no partial file"


def test_of_two_that_save_the_same_concept_at_once_there_is_one(servers):
    models = servers["left"].base / "models"
    for number in range(RACES):
        name = f"same-{number}"
        reported = raced(servers, {"left": "left", "right": "left"}, name)
        assert set(reported.values()) == {name}
        assert values_of(models, name) == {VALUES["left"]}
        assert not list(models.glob(f"*/{name}-*"))
