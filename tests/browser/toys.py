"""Shipped workflows on the toy model, each for one thing that the pack can do."""

from __future__ import annotations

from notes import (
    EXTRACT_NOTE,
    MASKS_NOTE,
    NO_CLASS_NOTE,
    PRIOR_NOTE,
    TWO_NOTE,
)
from parts import (
    LIVE,
    SAID,
    Spec,
    apply,
    drawing,
    group,
    ids,
    note,
    room,
    sizes,
    titled,
    toy_photos,
)
from support.graph import Graph, Node

CAPTIONS = """a photo of a {} in a meadow
a photo of a {} on the beach
a photo of a {} in the snow
a photo of a {} in a room
a photo of a {} in the city"""
"""Of the toy photos, in their order."""


def two_concepts() -> Spec:
    """Two subjects in one picture, each in a region of its own."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "preset": "micro"}
    photos, trained = ids(base), []
    for concept, word in (("hatted-robot", "<my-robot>"), ("horned-car", "<my-car>")):
        dataset = toy_photos(graph, concept, word)
        train = graph.add("AttnDBAllStages", **wires, dataset=dataset[0])
        trained.append(titled(graph, train, f"Train Concept: {word}"))
        photos += [int(dataset.id) - 1, int(dataset.id)]
    regions: list[Node] = []
    for train, subject, left in zip(trained, ("robot", "car"), (0.0, 0.5), strict=True):
        before = {"positive": regions[-1][0], "negative": regions[-1][1]} if regions else {}
        region = graph.add(
            "AttnDBConceptInRegion",
            **{"clip": base[1], "concept": train[0], "text": "a photo of a {} in a forest"},
            **{"left": left, "top": 0.0, "width": 0.5, "height": 1.0, "strength": 1.0},
            **{"canvas": "region", "feather": 0.12, "negative_text": "", **before},
        )
        regions.append(titled(graph, region, f"Concept in Region: the {subject}"))
    drawn = drawing(graph, base, base, [], "two-concepts", pair=regions[-1], size=(192, 128))
    first = "1  A toy model, two subjects"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(first, photos),
            group("2  Learn both", ids(trained[0]), ids(trained[1])),
            group("3  Each in its place", ids(*regions)),
            group("4  Draw them together", *drawn.values()),
        ],
        "sizes": sizes(graph),
        "room": room(graph, {int(train.id): LIVE for train in trained}),
        "notes": [note(TWO_NOTE, first, 220)],
    }


def prior_images() -> Spec:
    """Prior preservation: the category stays what it was."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    plain = drawing(graph, base, base, ["a photo of a robot"], "", batch=32, seed=1)
    sampled, decoded = plain["samplers"]
    graph.prompt[str(plain["saved"][0])] = {
        "class_type": "AttnDBAddPriorImages",
        "inputs": {"dataset": dataset[0], "images": [str(decoded), 0], "prompt": "a photo of a {}"},
    }
    added = Node(str(plain["saved"][0]), {})
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "preset": "micro"}
    train = graph.add("AttnDBAllStages", **wires, dataset=added[0])
    columns = _subject_and_category(graph, base, train, "prior-images")
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
            group("4  Draw the subject, and a plain robot", *columns),
        ],
        "sizes": sizes(graph),
        "room": room(graph, {int(train.id): LIVE}),
        "notes": [note(PRIOR_NOTE, left, 220)],
    }


def _subject_and_category(graph: Graph, base: Node, train: Node, save: str) -> list[list[int]]:
    """Pictures of the robot that was learned, and of a plain one: the columns of their group."""
    applied = apply(graph, base, train)
    texts = ["a photo of a <my-robot> robot in a forest", "a photo of a robot in a forest"]
    drawn = drawing(graph, base, applied, texts, save)
    for saved, title in zip(
        drawn["saved"], ("The subject", "A plain robot, after it"), strict=True
    ):
        titled(graph, Node(str(saved), {}), title)
    return [[*ids(applied), *drawn["words"]], drawn["samplers"], drawn["saved"]]


def masks_and_captions() -> Spec:
    """What is not the subject is said, or left out of the loss."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    photos = graph.add("AttnDBMicroConcept", concept="horned-car")
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    masks = graph.add("AttnDBMaskSubject", **wires, images=photos[0], category=photos[1])
    dataset = graph.add(
        "AttnDBConceptDatasetFromImages",
        **{"images": photos[0], "category": photos[1], "placeholder": "<my-car>"},
        **{"captions": CAPTIONS, "masks": masks[0], "background_weight": 0.2},
    )
    shown = graph.add("AttnDBPreviewDataset", dataset=dataset[0], clip=base[1], resolution=128)
    graph.prompt[shown.id]["inputs"] |= {"augmentation": "none", "crops": 1}
    train = graph.add("AttnDBAllStages", **wires, preset="micro", dataset=dataset[0])
    applied = apply(graph, base, train)
    drawn = drawing(
        graph, base, applied, ["a photo of a <my-car> car in the desert at sunset"], "masked"
    )
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, photos, masks)),
            group("2  What training will see", ids(dataset), ids(shown)),
            group("3  Learn", ids(train)),
            group(
                "4  Draw it anywhere",
                [*ids(applied), *drawn["words"]],
                [*drawn["samplers"], *drawn["saved"]],
            ),
        ],
        "sizes": sizes(graph) | {dataset.id: [420, 460], shown.id: [560, 760]},
        "room": room(graph, {int(train.id): LIVE}),
        "notes": [note(MASKS_NOTE, left, 300)],
    }


def no_class_images() -> Spec:
    """Prior preservation without a picture of the category."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    options = graph.add("AttnDBTrainingOptions", prior_prediction=1.0)
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "preset": "micro"}
    train = graph.add("AttnDBAllStages", **wires, dataset=dataset[0], options=options[0])
    columns = _subject_and_category(graph, base, train, "no-class-images")
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, [int(base.id), int(dataset.id) - 1, int(dataset.id)]),
            group("2  Learn, held to the base model's answers", ids(options), ids(train)),
            group("3  Draw the subject, and a plain robot", *columns),
        ],
        "sizes": sizes(graph),
        "room": room(graph, {int(train.id): LIVE}),
        "notes": [note(NO_CLASS_NOTE, left, 240)],
    }


def extract_lora() -> Spec:
    """A concept of whole weights beside its LoRA, which stock nodes load."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "preset": "micro"}
    train = graph.add("AttnDBAllStages", **wires, dataset=dataset[0])
    thin = graph.add("AttnDBExtractLoRA", concept=train[0], rank=8)
    save = graph.add("AttnDBSaveConcept", concept=thin[0], name="my-robot-lora")
    applied = apply(graph, base, train)
    text = "a photo of a {} robot in a forest"
    whole = drawing(graph, base, applied, [text.format("<my-robot>")], "whole")
    lora = graph.add("LoraModelLoader", model=base[0], lora=thin[2], strength_model=1.0)
    put = {"string": text.replace("{}", "embedding:{}"), "find": "{}", "replace": save[0]}
    words = titled(graph, graph.add("StringReplace", **put), "The saved embedding's name for {}")
    stock = drawing(graph, base, lora, [words[0]], "lora", clip=base[1])
    titled(graph, Node(str(whole["saved"][0]), {}), "Whole weights")
    titled(graph, Node(str(stock["saved"][0]), {}), "LoRA of rank 8")
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, [int(base.id), int(dataset.id) - 1, int(dataset.id)]),
            group("2  Learn, make it small, keep it", ids(train), ids(thin, save)),
            group(
                "3  The whole concept",
                [*ids(applied), *whole["words"]],
                [*whole["samplers"], *whole["saved"]],
            ),
            group(
                "4  The small one, by stock nodes",
                [*ids(lora, words), *stock["words"]],
                [*stock["samplers"], *stock["saved"]],
            ),
        ],
        "sizes": sizes(graph) | {words.id: [380, 200], lora.id: [380, 0]},
        "room": room(graph, {int(train.id): LIVE, int(thin.id): 2 * LIVE, int(save.id): SAID}),
        "notes": [note(EXTRACT_NOTE, left, 320)],
    }
