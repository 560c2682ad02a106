"""NeTI in a real server: trained, saved, loaded, and drawn by stock nodes under stock samplers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.graph import Graph, Node
from support.server import HostServer

pytestmark = pytest.mark.host

NAME, TEXT = "neti-robot", "a photo of a <my-robot> on the beach"
SAMPLERS = ("euler", "dpmpp_2m", "dpmpp_sde")


def training(graph: Graph) -> tuple[Node, Node]:
    """The embedded model, and a short training on it."""
    base = graph.add("AttnDBLoadMicroModel")
    photos = graph.add("AttnDBMicroConcept", concept="hatted-robot")
    dataset = graph.add(
        "AttnDBConceptDatasetFromImages",
        **{"images": photos[0], "category": photos[1], "placeholder": "<my-robot>"},
        template="a photo of a {}",
    )
    wires: dict[str, Any] = {"model": base[0], "clip": base[1], "vae": base[2]}
    own = {"steps": 8, "learning_rate": 1e-2, "batch_size": 2, "nested_dropout": 0.5}
    own |= {"bypass": True, "templates": "published (27)"}
    shared = {"seed": 0, "resolution": 64, "micro_batch": 0, "precision": "fp32"}
    shared |= {"augmentation": "none", "mask_fill": True, "latent_pool": -1}
    node = graph.add(
        "AttnDBTrainComparedMethod",
        **{**wires, "dataset": dataset[0], **shared, "method": "NeTI"},
        **{f"method.{name}": value for name, value in own.items()},
        **{"category_tie": "last word", "checkpoint_every": 0},
    )
    return base, node


def drawn(server: HostServer, graph: Graph, wires: tuple[Any, ...], sampler: str) -> np.ndarray:
    model, clip, vae = wires
    saved = graph.sample(model, clip, vae, TEXT, steps=3, cfg=3.0)
    [decoded] = [graph.prompt[saved.inputs["images"][0]]]
    sample = graph.prompt[decoded["inputs"]["samples"][0]]
    sample["inputs"]["sampler_name"] = sampler
    [file] = server.run(graph.prompt, timeout=300).outputs[saved.id]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB")).astype(float)


@pytest.fixture(scope="module")
def pictures(server: HostServer) -> dict[str, np.ndarray]:
    """Of the trained wires, by sampler; the concept is saved meanwhile."""
    made = {}
    for sampler in SAMPLERS:
        graph = Graph()
        base, node = training(graph)
        graph.add("AttnDBSaveConcept", concept=node[0], name=NAME)
        made[sampler] = drawn(server, graph, (node[1], node[2], base[2]), sampler)
    return made


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_saved_word_draws_what_the_trained_one_did_and_not_without_the_patch(
    server, pictures, sampler
):
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    concept = graph.add("AttnDBLoadConcept", name=NAME)
    applied = graph.add(
        "AttnDBApplyConcept", model=base[0], clip=base[1], concept=concept[0], strength=1.0
    )
    again = drawn(server, graph, (applied[0], applied[1], base[2]), sampler)
    assert np.abs(again - pictures[sampler]).max() <= 1
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    concept = graph.add("AttnDBLoadConcept", name=NAME)
    applied = graph.add(
        "AttnDBApplyConcept", model=base[0], clip=base[1], concept=concept[0], strength=1.0
    )
    without = drawn(server, graph, (base[0], applied[1], base[2]), sampler)
    assert np.abs(without - pictures[sampler]).mean() > 0.5
