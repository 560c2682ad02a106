"""The shipped workflows as specs: what author.py lays out in the real front end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from notes import COMPARE_NOTE, PRIOR_NOTE, STAGES_NOTE, TEACH_NOTE, TOY_NOTE, TWO_NOTE
from support.graph import Graph, Node

from attndreambooth.attndb.config.presets import PRESETS

Spec = dict[str, Any]
SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
    "v1-5-pruned-emaonly-fp16.safetensors",
    "directory": "checkpoints",
}
LIVE = 330
"""Pixels that a training node grows by while it runs: its text and its live picture."""

SAID = 110
"""Pixels for what Save Concept says."""
COMPARED_PROMPTS = "a photo of a {} in the forest\na sketch of a {} underwater"
SIZES = {
    "AttnDBLoadMicroModel": [400, 0],
    "AttnDBMicroConcept": [400, 0],
    "AttnDBConceptDatasetFromImages": [400, 0],
    "AttnDBLoadConceptDataset": [400, 0],
    "CheckpointLoaderSimple": [400, 0],
    "AttnDBTrainingPreview": [330, 0],
    "AttnDBAllStages": [380, 0],
    "AttnDBSaveConcept": [380, 120],
    "AttnDBApplyConcept": [380, 106],
    "AttnDBCompareConcepts": [380, 0],
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
    "AttnDBLoadConceptDataset": 110,
    "AttnDBConceptDatasetFromImages": 60,
    "AttnDBMicroConcept": 40,
    "AttnDBLoadMicroModel": 30,
    "CheckpointLoaderSimple": 30,
    "AttnDBApplyConcept": 30,
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
    graph: Graph, base: Node, applied: Node, texts: list[str], save: str, **widgets: Any
) -> dict[str, list[int]]:
    """Prompts, samplers and pictures behind Apply Concept: ids by the column they lie in."""
    values = {"size": 64, "seed": 0, "steps": 20, "cfg": 4.0, "batch": 4, **widgets}
    prompts = [
        titled(graph, graph.add("CLIPTextEncode", clip=applied[1], text=text), "Prompt")
        for text in texts
    ]
    negative = titled(graph, graph.add("CLIPTextEncode", clip=applied[1], text=""), "Negative")
    size = {"width": values["size"], "height": values["size"]}
    latent = graph.add("EmptyLatentImage", **size, batch_size=values["batch"])
    columns: dict[str, list[int]] = {"words": ids(*prompts, negative, latent)}
    columns |= {"samplers": [], "saved": []}
    for prompt in prompts:
        sampled = graph.add(
            "KSampler",
            **{"model": applied[0], "positive": prompt[0], "negative": negative[0]},
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


def apply(graph: Graph, base: Node, trained: Node) -> Node:
    """Apply Concept behind MODEL and CLIP of a node."""
    wires = {"model": base[0], "clip": base[1], "concept": trained[0]}
    return graph.add("AttnDBApplyConcept", **wires, strength=1.0)


def ids(*nodes: Node) -> list[int]:
    """Their ids, as groups name them."""
    return [int(node.id) for node in nodes]


def teach(toy: bool) -> Spec:
    """The main job on one screen, on Stable Diffusion or on the toy model."""
    graph = Graph()
    if toy:
        base = graph.add("AttnDBLoadMicroModel")
        dataset = toy_photos(graph, "hat-robot", "<my-robot>")
        words, name, size = "<my-robot> robot", "my-robot", 64
    else:
        base = graph.add("CheckpointLoaderSimple", ckpt_name=SD15["name"])
        dataset = sd_photos(graph)
        words, name, size = "<my-dog> dog", "my-dog", 512
    photos = list(range(2, int(dataset.id) + 1))
    shown = titled(graph, graph.add("PreviewImage", images=dataset[1]), "Are the photos upright?")
    preview = graph.add(
        "AttnDBTrainingPreview",
        **{"prompt": "a photo of a {} on the beach", "every": 50, "steps": 20},
        **{"cfg": 4.0 if toy else 7.5, "width": size, "height": size},
    )
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "dataset": dataset[0]}
    preset = "micro" if toy else "paper"
    train = graph.add("AttnDBAllStages", **wires, preset=preset, preview=preview[0])
    save = graph.add("AttnDBSaveConcept", concept=train[0], name=name)
    applied = apply(graph, base, train)
    text = f"a photo of a {words} " + ("in the forest" if toy else "on the beach at sunset")
    values = {} if toy else {"size": 512, "cfg": 7.5, "steps": 50, "batch": 1}
    drawn = drawing(graph, base, applied, [text], name, **values)
    left = f"1  {'Toy model' if toy else 'Model'} and photos"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, [*ids(base), *photos, *ids(shown)]),
            group("2  Learn: embedding, attention map, identity", ids(preview), ids(train, save)),
            group(
                "3  Draw it anywhere",
                [*ids(applied), *drawn["words"]],
                [*drawn["samplers"], *drawn["saved"]],
            ),
        ],
        "sizes": sizes(graph) | {shown.id: [400, 270]},
        "room": room(graph, {int(train.id): LIVE, int(save.id): SAID}),
        "notes": [note(TOY_NOTE if toy else TEACH_NOTE, left, 220)],
        "models": {} if toy else {base.id: [SD15]},
    }


def stages() -> Spec:
    """The same with a node for each stage, so that one can be changed, looked at or bypassed."""
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=SD15["name"])
    dataset = sd_photos(graph)
    shown = titled(graph, graph.add("PreviewImage", images=dataset[1]), "Are the photos upright?")
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "dataset": dataset[0]}
    first = graph.add("AttnDBStage1LearnEmbedding", **wires)
    second = graph.add("AttnDBStage2TrainCrossAttention", **wires, concept=first[0])
    third = graph.add("AttnDBStage3TrainUNet", **wires, concept=second[0])
    curves = titled(graph, graph.add("PreviewImage", images=third[3]), "Loss curves of stage 3")
    save = graph.add("AttnDBSaveConcept", concept=third[0], name="my-dog")
    applied = apply(graph, base, third)
    text = "a photo of a <my-dog> dog on the beach at sunset"
    values = {"size": 512, "cfg": 7.5, "steps": 50, "batch": 1}
    drawn = drawing(graph, base, applied, [text], "my-dog", **values)
    left, learn = "1  Model and photos", "2  Learn: embedding, attention map, identity"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, dataset, shown)),
            group(learn, ids(first), ids(second), ids(third, curves)),
            group(
                "3  Draw it anywhere",
                [*ids(applied), *drawn["words"]],
                [*drawn["samplers"], *ids(save)],
                drawn["saved"],
            ),
        ],
        "sizes": sizes(graph) | {shown.id: [400, 270], curves.id: [320, 200]},
        "room": room(graph, {**dict.fromkeys(ids(first, second, third), LIVE), int(save.id): SAID}),
        "notes": [note(STAGES_NOTE, left, 220)],
        "models": {base.id: [SD15]},
    }


def two_concepts() -> Spec:
    """Two subjects on one model, each in its own words."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "preset": "micro"}
    photos, trained = ids(base), []
    for concept, word in (("hat-robot", "<my-robot>"), ("cone-car", "<my-car>")):
        dataset = toy_photos(graph, concept, word)
        train = graph.add("AttnDBAllStages", **wires, dataset=dataset[0])
        trained.append(titled(graph, train, f"Train Concept: {word}"))
        photos += [int(dataset.id) - 1, int(dataset.id)]
    first = apply(graph, base, trained[0])
    second = apply(graph, first, trained[1])
    texts = ["a photo of a <my-robot> robot in the snow", "a photo of a <my-car> car on the beach"]
    drawn = drawing(graph, base, second, texts, "two-concepts")
    left = "1  A toy model, two subjects"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, photos),
            group("2  Learn both", ids(trained[0]), ids(trained[1])),
            group("3  Both on one model", ids(first), ids(second)),
            group("4  Draw each", *drawn.values()),
        ],
        "sizes": sizes(graph),
        "room": room(graph, {int(train.id): LIVE for train in trained}),
        "notes": [note(TWO_NOTE, left, 220)],
    }


def prior_images() -> Spec:
    """Prior preservation: the category stays what it was."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hat-robot", "<my-robot>")
    plain = drawing(graph, base, base, ["a photo of a robot"], "", batch=64, seed=1)
    sampled, decoded = plain["samplers"]
    graph.prompt[str(plain["saved"][0])] = {
        "class_type": "AttnDBAddPriorImages",
        "inputs": {"dataset": dataset[0], "images": [str(decoded), 0], "prompt": "a photo of a {}"},
    }
    added = Node(str(plain["saved"][0]), {})
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "preset": "micro"}
    train = graph.add("AttnDBAllStages", **wires, dataset=added[0])
    applied = apply(graph, base, train)
    texts = ["a photo of a <my-robot> robot in the snow", "a photo of a robot in the snow"]
    drawn = drawing(graph, base, applied, texts, "prior-images")
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, [int(base.id), int(dataset.id) - 1, int(dataset.id)]),
            group(
                "2  Plain robots, by the model itself",
                plain["words"],
                [sampled, decoded, int(added.id)],
            ),
            group("3  Learn", ids(train)),
            group(
                "4  Draw the subject, and a plain robot",
                [*ids(applied), *drawn["words"]],
                drawn["samplers"],
                drawn["saved"],
            ),
        ],
        "sizes": sizes(graph),
        "room": room(graph, {int(train.id): LIVE}),
        "notes": [note(PRIOR_NOTE, left, 220)],
    }


def compare_stages() -> Spec:
    """The paper's figure: every stage's concept drawn by one node."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hat-robot", "<my-robot>")
    photos = Node(str(int(dataset.id) - 1), {})
    shown = titled(graph, graph.add("PreviewImage", images=photos[0]), "The photos")
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    kinds = ("1LearnEmbedding", "2TrainCrossAttention", "3TrainUNet")
    trained: list[Node] = []
    for config, kind in zip(PRESETS["micro"](), kinds, strict=True):
        values = {"steps": config.steps, "learning_rate": config.optimizer.learning_rate}
        data = {"resolution": config.data.resolution, "augmentation": config.data.augmentation}
        before = {"concept": trained[-1][0]} if trained else {}
        values |= {"batch_size": config.batch_size, "dataset": dataset[0]}
        trained.append(graph.add(f"AttnDBStage{kind}", **{**wires, **values, **data, **before}))
    figure = graph.add(
        "AttnDBCompareConcepts",
        **wires,
        **{f"concepts.concept_{i}": stage[0] for i, stage in enumerate(trained)},
        **{"prompts": COMPARED_PROMPTS, "seed": 7, "steps": 20, "cfg": 4.0},
        **{"width": 64, "height": 64},
    )
    saved = graph.add("SaveImage", images=figure[0], filename_prefix="compare_stages")
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, [*range(1, int(shown.id) + 1)]),
            group("2  Learn, stage by stage", *(ids(stage) for stage in trained)),
            group("3  Side by side", ids(figure), ids(saved)),
        ],
        "sizes": sizes(graph) | {shown.id: [400, 270], saved.id: [700, 620]},
        "room": room(graph, dict.fromkeys(ids(*trained), LIVE)),
        "notes": [note(COMPARE_NOTE, left, 260)],
    }


GRAPHS: dict[str, Callable[[], Spec]] = {
    "Teach a subject": lambda: teach(toy=False),
    "Teach a subject (toy model)": lambda: teach(toy=True),
    "Stage by stage": stages,
    "Two concepts": two_concepts,
    "Prior images": prior_images,
    "Compare stages": compare_stages,
}
"""By the name of their file in workflows/."""
