"""What the shipped workflows are put together from: nodes, groups, sizes, room."""

from __future__ import annotations

from typing import Any

from support.graph import Graph, Node

Spec = dict[str, Any]
SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
    "v1-5-pruned-emaonly-fp16.safetensors",
    "directory": "checkpoints",
}
SDXL = {
    "name": "sd_xl_base_1.0.safetensors",
    "url": "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/"
    "sd_xl_base_1.0.safetensors",
    "directory": "checkpoints",
}
CANNY = {
    "name": "control_v11p_sd15_canny_fp16.safetensors",
    "url": "https://huggingface.co/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/"
    "control_v11p_sd15_canny_fp16.safetensors",
    "directory": "controlnet",
}
"""A ControlNet for SD 1.5 that follows edges."""
SD_VALUES = {"size": 512, "cfg": 7.5, "steps": 50, "batch": 1}
LIVE = 330
"""Pixels that a training node grows by while it runs: its text and its live picture."""

SAID = 110
"""Pixels for what Save Concept says."""
SIZES = {
    "AttnDBLoadMicroModel": [400, 0],
    "AttnDBMicroConcept": [400, 0],
    "AttnDBConceptDatasetFromImages": [400, 0],
    "AttnDBLoadConceptDataset": [400, 0],
    "CheckpointLoaderSimple": [400, 0],
    "AttnDBTrainingPreview": [330, 0],
    "AttnDBAllStages": [380, 0],
    "AttnDBExtractLoRA": [380, 0],
    "AttnDBLoadKeptConcepts": [380, 0],
    "AttnDBSaveConcept": [380, 120],
    "AttnDBApplyConcept": [380, 106],
    "AttnDBConceptInRegion": [380, 340],
    "AttnDBCompareConcepts": [380, 0],
    "AttnDBEvaluateConcept": [460, 0],
    "AttnDBTrainComparedMethod": [340, 0],
    "AttnDBStage1LearnEmbedding": [320, 0],
    "AttnDBStage2TrainCrossAttention": [320, 0],
    "AttnDBStage3TrainUNet": [320, 0],
    "CLIPTextEncode": [380, 130],
    "EmptyLatentImage": [380, 106],
    "KSampler": [380, 262],
    "VAEDecode": [220, 46],
    "SaveImage": [400, 420],
}
TALLER = {
    **dict.fromkeys(("AttnDBLoadConceptDataset", "AttnDBAddPriorImages", "AttnDBMicroConcept"), 40),
    **dict.fromkeys(("AttnDBLoadMicroModel", "CheckpointLoaderSimple", "LoraModelLoader"), 40),
    **dict.fromkeys(("AttnDBAllStages", "AttnDBApplyConcept"), 60),
    "AttnDBConceptInRegion": 110,
    "AttnDBDatasetPhotos": 40,
    **dict.fromkeys(("AttnDBExtractLoRA", "AttnDBMaskSubject"), 60),
    "AttnDBConceptDatasetFromImages": 80,
    **dict.fromkeys(("AttnDBStage1LearnEmbedding", "AttnDBStage2TrainCrossAttention"), 70),
    **dict.fromkeys(("AttnDBStage3TrainUNet", "AttnDBCompareConcepts", "AttnDBPromptSet"), 70),
    "AttnDBTrainingPreview": 70,
    **dict.fromkeys(("AttnDBEvaluateConcept", "AttnDBTrainComparedMethod"), 90),
    "AttnDBTrainingOptions": 90,
    "AttnDBLoadKeptConcepts": 40,
    "StringReplace": 120,
}
"""Pixels by which Nodes 2.0 draws a node taller than the classic canvas."""


def titled(graph: Graph, node: Node, title: str) -> Node:
    """The node with a title of its own."""
    graph.prompt[node.id]["_meta"] = {"title": title}
    return node


def note(text: str, group: str, height: int, width: int = 400) -> dict[str, Any]:
    """A note on top of a group's first column."""
    return {"title": "Start here", "text": text, "group": group, "size": [width, height]}


def toy_photos(graph: Graph, concept: str, placeholder: str) -> Node:
    """The dataset node of one of the toy model's subjects."""
    photos = graph.add("AttnDBMicroConcept", concept=concept)
    return graph.add(
        "AttnDBConceptDatasetFromImages",
        **{"images": photos[0], "category": photos[1], "placeholder": placeholder},
    )


def drawing(
    graph: Graph,
    base: Node,
    applied: Node,
    texts: list[Any],
    save: str,
    clip: list[Any] | None = None,
    pair: Node | None = None,
    **widgets: Any,
) -> dict[str, list[int]]:
    """Prompts, samplers and pictures behind Apply Concept, or behind a node that gives a MODEL
    alone and a `clip` beside it: ids by the column they lie in. `pair`: a node that gives the
    prompts, positive and negative, in the place of texts."""
    clip = clip or applied[1]
    values = {"size": 128, "seed": 0, "steps": 20, "cfg": 3.0, "batch": 4, **widgets}
    prompts = [
        titled(graph, graph.add("CLIPTextEncode", clip=clip, text=text), "Prompt") for text in texts
    ]
    told = [(pair[0], pair[1])] if pair else []
    words = ids(*prompts)
    if prompts:
        negative = titled(graph, graph.add("CLIPTextEncode", clip=clip, text=""), "Negative")
        told += [(prompt[0], negative[0]) for prompt in prompts]
        words += ids(negative)
    size = values["size"]
    width, height = size if isinstance(size, tuple) else (size, size)
    latent = graph.add("EmptyLatentImage", width=width, height=height, batch_size=values["batch"])
    columns: dict[str, list[int]] = {"words": [*words, *ids(latent)]}
    columns |= {"samplers": [], "saved": []}
    for positive, opposed in told:
        sampled = graph.add(
            "KSampler",
            **{"model": applied[0], "positive": positive, "negative": opposed},
            **{"latent_image": latent[0], "seed": values["seed"], "steps": values["steps"]},
            **{"cfg": values["cfg"], "sampler_name": "dpmpp_2m", "scheduler": "normal"},
            denoise=1.0,
        )
        image = graph.add("VAEDecode", samples=sampled[0], vae=base[2])
        saved = graph.add("SaveImage", images=image[0], filename_prefix=save)
        columns["samplers"] += ids(sampled, image)
        columns["saved"] += ids(saved)
    return columns


def group(title: str, *columns: list[int]) -> dict[str, Any]:
    """A group with these columns, from left to right."""
    return {
        "title": title,
        "nodes": [node for column in columns for node in column],
        "columns": {node: number for number, column in enumerate(columns) for node in column},
    }


def sizes(graph: Graph) -> dict[str, list[int]]:
    """Sizes by kind of node; nodes that are not named have the front end's."""
    found = {}
    for key, node in graph.prompt.items():
        size = SIZES.get(node["class_type"])
        if node["class_type"] == "CLIPTextEncode" and not node["inputs"]["text"]:
            size = [380, 90]
        if size is not None:
            found[key] = size
    return found


def room(graph: Graph, live: dict[int, int]) -> dict[int, int]:
    """What is left free below nodes: `live`, and what Nodes 2.0 needs."""
    taller = {int(k): TALLER.get(node["class_type"], 0) for k, node in graph.prompt.items()}
    return {node: pixels + live.get(node, 0) for node, pixels in taller.items()}


def sd_photos(graph: Graph) -> Node:
    """The dataset node of a user's photos."""
    words = {"path": "my-dog", "category": "dog", "placeholder": "<my-dog>"}
    return graph.add("AttnDBLoadConceptDataset", **words)


def kept(graph: Graph, scored: Node, photos: Node, name: str) -> tuple[Node, Node]:
    """What is kept of Evaluate Concept: its grid, and a report of its best concept."""
    saved = graph.add("SaveImage", images=scored[0], filename_prefix="evaluate_concept")
    report = graph.add(
        "AttnDBTrainingReport",
        **{"concept": scored[2], "name": name, "photos": photos[0]},
        **{"pictures": scored[0], "scores": scored[3]},
    )
    return saved, report


def apply(graph: Graph, base: Node, trained: Node) -> Node:
    """Apply Concept behind MODEL and CLIP of a node."""
    wires = {"model": base[0], "clip": base[1], "concept": trained[0]}
    return graph.add("AttnDBApplyConcept", **wires, strength=1.0)


def ids(*nodes: Node) -> list[int]:
    """Their ids, as groups name them."""
    return [int(node.id) for node in nodes]
