"""SDXL in a real server: a file that the stock loader takes, three stages, files for stock nodes.

The file has SDXL's real text encoders (0.8 billion parameters) and a small U-Net of a distilled
SDXL's layout: 6 GB of memory and minutes of a core, so it is asked for by name.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from support.graph import Graph, Node
from support.server import HostServer
from support.shipped import Shipped, rank_in

from attndreambooth.devkit.checkpoints import make_checkpoint
from attndreambooth.devkit.photos import write_photos

ASKED = "ATTNDB_TEST_SDXL"
pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(ASKED not in os.environ, reason=f"takes 6 GB: set {ASKED}=1"),
]

NAME, WORD = "xl-cat", "<my-cat>"
TEXT = f"a photo of a {WORD} cat"
STAGES = {
    "AttnDBStage1LearnEmbedding": 0.02,
    "AttnDBStage2TrainCrossAttention": 2e-4,
    "AttnDBStage3TrainUNet": 1e-4,
}
WIDGETS = {
    **{"steps": 2, "batch_size": 1, "seed": 3, "resolution": 64, "micro_batch": 0},
    **{"precision": "fp32", "augmentation": "reference", "mask_fill": True, "latent_pool": 1},
    **{"category_tie": "last word", "checkpoint_every": 0},
}


@pytest.fixture(scope="module", params=["float16", "bfloat16"])
def checkpoint(request, server: HostServer, host) -> str:
    return server.add_model(make_checkpoint("sdxl_whole", dtype=getattr(torch, request.param)))


def trained(graph: Graph, checkpoint: str, photos: Path) -> tuple[Node, Node]:
    """The loader and the last stage."""
    base = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    dataset = graph.add(
        "AttnDBLoadConceptDataset",
        **{"folder": "(typed path)", "path": str(photos), "category": "cat", "placeholder": WORD},
        **{"template": "a photo of a {}", "skip_broken": False, "private": False},
        **{"captions": "template", "masks": "none"},
    )
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "dataset": dataset[0]}
    stage = None
    for kind, rate in STAGES.items():
        more = {"vectors": 1} if stage is None else {"concept": stage[0]}
        stage = graph.add(kind, **wires, **WIDGETS, learning_rate=rate, **more)
    assert stage is not None
    return base, stage


def pixels(server: HostServer, outcome, node: Node) -> np.ndarray:
    [file] = outcome.outputs[node.id]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB"))


def test_three_stages_and_the_files_in_stock_nodes(server, checkpoint):
    photos = server.base / "input" / "xl photos"
    if not photos.exists():
        write_photos(photos, 3)
    graph = Graph()
    base, stage = trained(graph, checkpoint, photos)
    name = f"{NAME}-{Path(checkpoint).stem}"
    graph.add("AttnDBSaveConcept", concept=stage[0], name=name)
    ours = graph.sample(stage[1], stage[2], base[2], TEXT)
    outcome = server.run(graph.prompt, timeout=1800)
    with safe_open(server.base / f"models/embeddings/{name}.safetensors", "np") as file:
        shapes = {key: file.get_tensor(key).shape for key in file.keys()}
    assert shapes == {"clip_l": (1, 768), "clip_g": (1, 1280)}

    stock = Graph()
    base = stock.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    loaded = stock.add(
        "LoraLoader",
        **{"model": base[0], "clip": base[1], "lora_name": f"{name}.safetensors"},
        **{"strength_model": 1.0, "strength_clip": 1.0},
    )
    spelt = TEXT.replace(WORD, f"embedding:{name}")
    theirs = stock.sample(loaded[0], loaded[1], base[2], spelt)
    plain = stock.sample(base[0], base[1], base[2], TEXT.replace(f"{WORD} ", ""))
    drawn = server.run(stock.prompt, timeout=900)
    assert np.array_equal(pixels(server, outcome, ours), pixels(server, drawn, theirs))
    base_picture = pixels(server, drawn, plain).astype(float)
    assert np.abs(base_picture - pixels(server, outcome, ours)).mean() > 1


@pytest.mark.parametrize(
    ("name", "rank"), [("Teach a subject (SDXL)", 0), ("Teach a subject (SDXL, LoRA)", 16)]
)
def test_a_shipped_graph_draws_and_saves(server, checkpoint, name, rank):
    graph = Shipped(server, name, 64)
    [load], [save] = graph.ids("CheckpointLoaderSimple"), graph.ids("AttnDBSaveConcept")
    [draw], [photos] = graph.ids("SaveImage"), graph.ids("AttnDBLoadConceptDataset")
    folder = server.base / "input" / graph.prompt[photos]["inputs"]["path"]
    if not folder.exists():
        write_photos(folder, 3)
    saved = f"{Path(checkpoint).stem}-of-rank-{rank}"
    graph.prompt[load]["inputs"]["ckpt_name"] = checkpoint
    graph.prompt[save]["inputs"]["name"] = saved
    outcome = graph.run()
    assert pixels(server, outcome, Node(draw, {})).shape == (64, 64, 3)
    assert rank_in(server.base / "models" / "loras" / f"{saved}.safetensors") == rank
