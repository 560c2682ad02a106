"""A LoRA that ComfyUI's own node trains on the embedded model, with and without the regulariser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image
from support.graph import Graph, Node
from support.outcome import ExecutionFailed
from support.server import HostServer

pytestmark = pytest.mark.host

TEXT = "a photo of a sks robot"
STEPS = 10


@dataclass
class Trained:
    """A graph from the toy photos to the share of attention of each of the two words."""

    graph: Graph
    train: Node
    shares: tuple[Node, Node]


def stock(server: HostServer, graph: Graph, kind: str, **inputs: Any) -> Node:
    """A node of the host with its own defaults."""
    required = server.object_info()[kind]["input"]["required"]
    widgets = {
        name: spec[1]["default"]
        for name, spec in required.items()
        if len(spec) > 1 and "default" in spec[1]
    }
    return graph.add(kind, **{**widgets, **inputs})


def trained(server: HostServer, *, regularize: bool, caption: str = TEXT) -> Trained:
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    photos = graph.add("AttnDBMicroConcept", concept="hatted-robot")
    latents = graph.add("VAEEncode", pixels=photos[0], vae=base[2])
    positive = graph.add("CLIPTextEncode", clip=base[1], text=caption)
    model = base[0]
    if regularize:
        model = graph.add(
            "AttnDBRegularizeTrainLora",
            **{"model": base[0], "clip": base[1], "text": TEXT, "token": "sks"},
            **{"category": "robot", "mean_weight": 20.0, "variance_weight": 50.0},
        )[0]
    train = stock(
        *(server, graph, "TrainLoraNode"),
        **{"model": model, "latents": latents[0], "positive": positive[0], "steps": STEPS},
        **{"learning_rate": 1e-3, "seed": 4, "training_dtype": "fp32", "lora_dtype": "fp32"},
        gradient_checkpointing=regularize,  # it changes no value, only what is computed again
    )
    applied = stock(server, graph, "LoraModelLoader", model=base[0], lora=train[0])
    capture = graph.add(
        "AttnDBCaptureAttention",
        **{"model": applied[0], "clip": base[1], "text": TEXT, "words": "sks, robot"},
        **{"time_slices": 1, "keep_heads": False},
    )
    latent = graph.add("EmptyLatentImage", width=128, height=128, batch_size=2)
    sampled = graph.add(
        "KSampler",
        **{"model": capture[0], "positive": capture[2], "latent_image": latent[0], "seed": 1},
        **{"negative": graph.add("CLIPTextEncode", clip=base[1], text="")[0], "steps": 4},
        **{"cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
    )
    shares = [
        graph.add(
            "PreviewAny",
            source=graph.add(
                "AttnDBAttentionMaps",
                **{"capture": capture[1], "samples": sampled[0], "words": "", "word": word},
                **{"normalization": "shared", "layers": "all", "start_percent": 0.0},
                **{"end_percent": 1.0, "opacity": 0.5, "other_word": "", "mask_output": "soft"},
                **{"cell_size": 64, "columns": 0, "head": -1, "layer_list": ""},
            )[3],
        )
        for word in ("sks", "robot")
    ]
    return Trained(graph, train, (shares[0], shares[1]))


def gap(server: HostServer, job: Trained) -> float:
    """Difference of the mean attention of the two words, over every pixel, head, layer and step."""
    outputs = server.run(job.graph.prompt).outputs
    new, category = (float(outputs[share.id]["text"][0]) for share in job.shares)
    return abs(new - category)


def test_the_words_of_a_stock_lora_are_closer_with_the_regulariser(server):
    without = gap(server, trained(server, regularize=False))
    tied = gap(server, trained(server, regularize=True))
    assert tied < 0.7 * without, (tied, without)
    assert "Regularize Attention (Train LoRA): the regulariser was" in server.log()


def test_a_stock_trainer_that_never_sees_the_new_word_stops_by_name(server):
    job = trained(server, regularize=True, caption="a photo of a robot")
    with pytest.raises(ExecutionFailed, match="the trainer never sees both words") as error:
        server.run(job.graph.prompt)
    assert error.value.node_type == "TrainLoraNode"
    assert "Regularize Attention (Train LoRA)" in error.value.message
    assert repr(TEXT) in error.value.message


def test_a_folder_of_captions_in_buckets_trains_with_those_that_have_both_words(server):
    captions = [TEXT, "sks robot on the beach", "in space, a sks red robot", "a photo of a boat"]
    folder = server.base / "input" / "captioned"
    folder.mkdir()
    for number, caption in enumerate(captions):
        size = (64, 64) if number < 2 else (96, 64)
        Image.new("RGB", size, (60 * number, 90, 120)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    photos = stock(server, graph, "LoadImageTextDataSetFromFolder", folder="captioned")
    regularized = graph.add(
        "AttnDBRegularizeTrainLora",
        **{"model": base[0], "clip": base[1], "text": photos[1], "token": "sks"},
        **{"category": "robot", "mean_weight": 2.0, "variance_weight": 5.0},
    )
    made = graph.add(
        "MakeTrainingDataset", images=photos[0], vae=base[2], clip=base[1], texts=photos[1]
    )
    buckets = graph.add("ResolutionBucket", latents=made[0], conditioning=made[1])
    train = stock(
        *(server, graph, "TrainLoraNode"),
        **{"model": regularized[0], "latents": buckets[0], "positive": buckets[1], "steps": 2},
        **{"batch_size": 2, "training_dtype": "fp32", "bucket_mode": True},
    )
    graph.add("LossGraphNode", loss=train[1], filename_prefix="loss")
    server.run(graph.prompt)
    said = "Regularize Attention (Train LoRA): "
    assert f"{said}not tied in 'a photo of a boat': the word 'sks' is not in" in server.log()
    assert f"{said}1 of 4 conditionings are none of its captions with both words" in server.log()
