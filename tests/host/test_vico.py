"""ViCo in a real server: trained, saved, loaded, and drawn with a photo by stock nodes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.graph import Graph, Node
from support.outcome import ExecutionFailed
from support.server import HostServer

pytestmark = pytest.mark.host

NAME, TEXT = "vico-robot", "a photo of a <my-robot> on the beach"


def training(graph: Graph, base: Node, photos: Node) -> Node:
    """A short training of the embedded model."""
    dataset = graph.add(
        "AttnDBConceptDatasetFromImages",
        **{"images": photos[0], "category": photos[1], "placeholder": "<my-robot>"},
        template="a photo of a {}",
    )
    wires: dict[str, Any] = {"model": base[0], "clip": base[1], "vae": base[2]}
    own = {"steps": 6, "learning_rate": 1e-2, "batch_size": 2, "image_learning_rate": 1e-3}
    own |= {"map_weight": 5e-4, "templates": "published (27)"}
    shared = {"seed": 0, "resolution": 128, "micro_batch": 0, "precision": "fp32"}
    shared |= {"augmentation": "none", "mask_fill": True, "latent_pool": -1}
    return graph.add(
        "AttnDBTrainComparedMethod",
        **{**wires, "dataset": dataset[0], **shared, "method": "ViCo"},
        **{f"method.{name}": value for name, value in own.items()},
        **{"category_tie": "last word", "checkpoint_every": 0},
    )


def drawn(server: HostServer, graph: Graph, wires: tuple[Any, ...]) -> np.ndarray:
    model, clip, vae = wires
    saved = graph.sample(model, clip, vae, TEXT, steps=3, cfg=3.0)
    [file] = server.run(graph.prompt, timeout=400).outputs[saved.id]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB")).astype(float)


def loaded(server: HostServer, photo: int | None) -> np.ndarray:
    """The saved concept's picture, with a photo by its number."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    concept = graph.add("AttnDBLoadConcept", name=NAME)
    wires = {"model": base[0], "clip": base[1], "concept": concept[0], "strength": 1.0}
    if photo is not None:
        photos = graph.add("AttnDBMicroConcept", concept="hatted-robot")
        one = graph.add("ImageFromBatch", image=photos[0], batch_index=photo, length=1)
        wires["reference"] = graph.add("VAEEncode", pixels=one[0], vae=base[2])[0]
    applied = graph.add("AttnDBApplyConcept", **wires)
    return drawn(server, graph, (applied[0], applied[1], base[2]))


def test_a_saved_concept_draws_what_the_trained_one_did_by_the_photo_it_is_given(server):
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    photos = graph.add("AttnDBMicroConcept", concept="hatted-robot")
    node = training(graph, base, photos)
    graph.add("AttnDBSaveConcept", concept=node[0], name=NAME)
    trained = drawn(server, graph, (node[1], node[2], base[2]))
    assert np.abs(loaded(server, 0) - trained).max() <= 1
    assert np.abs(loaded(server, 1) - trained).max() > 1
    with pytest.raises(ExecutionFailed, match="was trained by ViCo, whose pictures look at a"):
        loaded(server, None)
