"""Shipped workflows on the toy model that set concepts side by side."""

from __future__ import annotations

from typing import Any

from notes import BEST_STEP_NOTE, COMPARE_NOTE, EVALUATE_NOTE, METHODS_NOTE
from parts import LIVE, SAID, Spec, group, ids, kept, note, room, sizes, titled, toy_photos
from support.graph import Graph, Node

from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.evaluation.prompts import SETS

COMPARED_PROMPTS = "a photo of a {} in a forest\na sketch of a {} underwater"


def compare_stages() -> Spec:
    """The paper's figure: every stage's concept drawn by one node."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    photos = Node(str(int(dataset.id) - 1), {})
    shown = titled(graph, graph.add("PreviewImage", images=photos[0]), "The photos")
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    trained = stage_by_stage(graph, wires, dataset)
    figure = graph.add(
        "AttnDBCompareConcepts",
        **wires,
        **{f"concepts.concept_{i}": stage[0] for i, stage in enumerate(trained)},
        **{"prompts": COMPARED_PROMPTS, "seed": 7, "steps": 20, "cfg": 3.0},
        **{"width": 128, "height": 128},
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


def stage_by_stage(graph: Graph, wires: dict[str, Any], dataset: Node) -> list[Node]:
    """A node for each stage, with the settings of preset micro."""
    kinds = ("1LearnEmbedding", "2TrainCrossAttention", "3TrainUNet")
    trained: list[Node] = []
    for config, kind in zip(PRESETS["micro"](), kinds, strict=True):
        values = {"steps": config.steps, "learning_rate": config.optimizer.learning_rate}
        data = {"resolution": config.data.resolution, "augmentation": config.data.augmentation}
        before = {"concept": trained[-1][0]} if trained else {}
        values |= {"batch_size": config.batch_size, "dataset": dataset[0]}
        trained.append(graph.add(f"AttnDBStage{kind}", **{**wires, **values, **data, **before}))
    return trained


def evaluate_concept() -> Spec:
    """Every stage's concept scored over prompts, the best in a report."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    photos = Node(str(int(dataset.id) - 1), {})
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    trained = stage_by_stage(graph, wires, dataset)
    prompts = graph.add("AttnDBPromptSet", prompts=list(SETS)[-1], count=4)
    encoder = graph.add("AttnDBLoadImageEncoder", encoder="toy model")
    scored = graph.add(
        "AttnDBEvaluateConcept",
        **wires,
        **{f"concepts.concept_{i}": stage[0] for i, stage in enumerate(trained)},
        **{"encoders.encoder_0": encoder[0], "photos": photos[0], "masks": photos[2]},
        **{"prompts": prompts[0], "images_per_prompt": 3, "seed": 7, "steps": 20, "cfg": 3.0},
        **{"width": 128, "height": 128, "cell_size": 192},
    )
    saved, report = kept(graph, scored, photos, "my-robot")
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, photos, dataset)),
            group("2  Learn, stage by stage", *(ids(stage) for stage in trained)),
            group("3  What to draw, what to compare by", ids(prompts, encoder)),
            group("4  Score, and keep", ids(scored), ids(saved, report)),
        ],
        "sizes": sizes(graph)
        | {saved.id: [480, 620], report.id: [480, 0], prompts.id: [380, 0], encoder.id: [380, 0]},
        "room": room(
            graph,
            {
                **dict.fromkeys(ids(*trained), LIVE),
                **dict.fromkeys(ids(scored, report), 2 * LIVE),
                **dict.fromkeys(ids(prompts, encoder), SAID),
            },
        ),
        "notes": [note(EVALUATE_NOTE, left, 280)],
    }


def compare_methods() -> Spec:
    """The subject by three methods, scored over the same prompts."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    photos = Node(str(int(dataset.id) - 1), {})
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    trained = [graph.add("AttnDBAllStages", **wires, dataset=dataset[0], preset="micro")]
    titled(graph, trained[0], "AttnDreamBooth (all stages)")
    for label, steps, rate in (("Textual Inversion", 300, 5e-3), ("DreamBooth", 600, 5e-5)):
        recipe = {"method": label, "method.steps": steps, "method.learning_rate": rate}
        recipe |= {"method.batch_size": 4, "resolution": 128, "augmentation": "none"}
        other = graph.add("AttnDBTrainComparedMethod", **wires, dataset=dataset[0], **recipe)
        trained.append(titled(graph, other, label))
    prompts = graph.add("AttnDBPromptSet", prompts=list(SETS)[-1], count=4)
    encoder = graph.add("AttnDBLoadImageEncoder", encoder="toy model")
    scored = graph.add(
        "AttnDBEvaluateConcept",
        **wires,
        **{f"concepts.concept_{i}": one[0] for i, one in enumerate(trained)},
        **{"encoders.encoder_0": encoder[0], "photos": photos[0], "masks": photos[2]},
        **{"prompts": prompts[0], "images_per_prompt": 2, "seed": 7, "steps": 20, "cfg": 3.0},
        **{"width": 128, "height": 128, "cell_size": 192},
        labels="before training\nAttnDreamBooth",
    )
    saved = graph.add("SaveImage", images=scored[0], filename_prefix="compare_methods")
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, photos, dataset)),
            group("2  Learn, by each method", *(ids(one) for one in trained)),
            group("3  What to draw, what to compare by", ids(prompts, encoder)),
            group("4  Score", ids(scored), ids(saved)),
        ],
        "sizes": sizes(graph) | {saved.id: [620, 620], prompts.id: [380, 0], encoder.id: [380, 0]},
        "room": room(
            graph,
            {
                **dict.fromkeys(ids(*trained), LIVE),
                **dict.fromkeys(ids(scored), 2 * LIVE),
                **dict.fromkeys(ids(prompts, encoder), SAID),
            },
        ),
        "notes": [note(METHODS_NOTE, left, 330)],
    }


def best_step() -> Spec:
    """What a training kept on the way, scored over prompts, and the best of it saved."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    photos = Node(str(int(dataset.id) - 1), {})
    options = graph.add("AttnDBTrainingOptions", checkpoint_concepts=60)
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    told = {"dataset": dataset[0], "options": options[0], "preset": "micro"}
    train = graph.add("AttnDBAllStages", **wires, **told)
    kept = graph.add("AttnDBLoadKeptConcepts", concept=train[0])
    prompts = graph.add("AttnDBPromptSet", prompts=list(SETS)[-1], count=4)
    encoder = graph.add("AttnDBLoadImageEncoder", encoder="toy model")
    scored = graph.add(
        "AttnDBEvaluateConcept",
        **{**wires, "concepts.concept_0": kept[0]},
        **{"encoders.encoder_0": encoder[0], "photos": photos[0], "masks": photos[2]},
        **{"prompts": prompts[0], "images_per_prompt": 2, "seed": 7, "steps": 20, "cfg": 3.0},
        **{"width": 128, "height": 128, "cell_size": 192},
    )
    saved = graph.add("SaveImage", images=scored[0], filename_prefix="best_step")
    best = graph.add("AttnDBSaveConcept", concept=scored[2], name="my-robot-best")
    left = "1  A toy model, and photos of the subject"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, photos, dataset)),
            group("2  Learn, and keep every 60th step", ids(options), ids(train, kept)),
            group("3  What to draw, what to compare by", ids(prompts, encoder)),
            group("4  Score, and save the best", ids(scored), ids(saved, best)),
        ],
        "sizes": sizes(graph) | {saved.id: [620, 620], prompts.id: [380, 0], encoder.id: [380, 0]},
        "room": room(
            graph,
            {
                int(train.id): LIVE,
                int(scored.id): 2 * LIVE,
                **dict.fromkeys(ids(prompts, encoder, best), SAID),
            },
        ),
        "notes": [note(BEST_STEP_NOTE, left, 360)],
    }
