"""The shipped workflows as specs: what author.py lays out in the real front end."""

from __future__ import annotations

from collections.abc import Callable

from notes import (
    APP_NOTE,
    LORA_NOTE,
    SDXL_LORA_NOTE,
    SDXL_NOTE,
    STAGES_NOTE,
    TEACH_NOTE,
    TOY_NOTE,
)
from parts import (
    LIVE,
    SAID,
    SD15,
    SD_VALUES,
    SDXL,
    Spec,
    apply,
    drawing,
    group,
    ids,
    note,
    room,
    sd_photos,
    sizes,
    titled,
    toy_photos,
)
from side_by_side import best_step, compare_methods, compare_stages, evaluate_concept
from stable_diffusion import control_net, evaluate_saved, fast
from support.graph import Graph
from toys import (
    extract_lora,
    masks_and_captions,
    no_class_images,
    prior_images,
    two_concepts,
)

NOTES = {
    **{"paper": TEACH_NOTE, "micro": TOY_NOTE, "sdxl": SDXL_NOTE},
    **{"lora": LORA_NOTE, "sdxl-lora": SDXL_LORA_NOTE},
}
"""Of the main job, by preset."""


def teach(toy: bool, model: dict[str, str] = SD15, lora: bool = False) -> Spec:
    """The main job on one screen, on Stable Diffusion or on the toy model."""
    graph, large = Graph(), model is SDXL
    if toy:
        base = graph.add("AttnDBLoadMicroModel")
        dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
        words, name, size = "<my-robot> robot", "my-robot", 128
    else:
        base = graph.add("CheckpointLoaderSimple", ckpt_name=model["name"])
        dataset = sd_photos(graph)
        words, name, size = "<my-dog> dog", "my-dog", 1024 if large else 512
    photos = list(range(2, int(dataset.id) + 1))
    shown = titled(graph, graph.add("PreviewImage", images=dataset[1]), "Are the photos upright?")
    preview = graph.add(
        "AttnDBTrainingPreview",
        **{"prompt": "a photo of a {} on the beach", "every": 50, "steps": 20},
        **{"cfg": 3.0 if toy else 7.5, "width": size, "height": size},
    )
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "dataset": dataset[0]}
    preset = {
        (False, False): "paper",
        (False, True): "lora",
        (True, False): "sdxl",
        (True, True): "sdxl-lora",
    }[large, lora]
    preset = "micro" if toy else preset
    train = graph.add("AttnDBAllStages", **wires, preset=preset, preview=preview[0])
    save = graph.add("AttnDBSaveConcept", concept=train[0], name=name)
    applied = apply(graph, base, train)
    text = f"a photo of a {words} " + (
        "next to a small blue boat on a stage" if toy else "on the beach at sunset"
    )
    values = {} if toy else {**SD_VALUES, "size": size}
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
        "notes": [note(NOTES[preset], left, 220)],
        "models": {} if toy else {base.id: [model]},
    }


def app_form() -> Spec:
    """The main job as a form (app mode): photos, category, name and prompt in; picture and files
    out. The prompt has {} for the subject, as in training."""
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=SD15["name"])
    dataset = graph.add("AttnDBLoadConceptDataset", path="", category="", placeholder="")
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "dataset": dataset[0]}
    train = graph.add("AttnDBAllStages", **wires, preset="paper")
    save = graph.add("AttnDBSaveConcept", concept=train[0], name="my-subject")
    applied = apply(graph, base, train)
    text = {"string": "a photo of a {} on the beach at sunset", "find": "{}"}
    words = titled(graph, graph.add("StringReplace", **text, replace=applied[2]), "Prompt")
    drawn = drawing(graph, base, applied, [words[0]], "my-subject", **SD_VALUES)
    left = "1  Model and photos"
    inputs = [
        *([dataset.id, "photo_upload"], [dataset.id, "category"], [save.id, "name"]),
        *([words.id, "string"], [base.id, "ckpt_name"], [train.id, "preset"]),
    ]
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, dataset)),
            group("2  Learn: embedding, attention map, identity", ids(train, save)),
            group(
                "3  Draw it anywhere",
                [*ids(applied, words), *drawn["words"]],
                [*drawn["samplers"], *drawn["saved"]],
            ),
        ],
        "sizes": sizes(graph) | {words.id: [380, 200]},
        "room": room(graph, {int(train.id): LIVE, int(save.id): SAID}),
        "notes": [note(APP_NOTE, left, 220)],
        "models": {base.id: [SD15]},
        "labels": {words.id: {"string": "prompt"}, base.id: {"ckpt_name": "model"}},
        "app": {"inputs": inputs, "outputs": [str(drawn["saved"][0]), save.id]},
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
    drawn = drawing(graph, base, applied, [text], "my-dog", **SD_VALUES)
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


GRAPHS: dict[str, Callable[[], Spec]] = {
    "Teach a subject": lambda: teach(toy=False),
    "Teach a subject (toy model)": lambda: teach(toy=True),
    "Teach a subject (fast)": fast,
    "Teach a subject (LoRA)": lambda: teach(toy=False, lora=True),
    "Teach a subject (SDXL)": lambda: teach(toy=False, model=SDXL),
    "Teach a subject (SDXL, LoRA)": lambda: teach(toy=False, model=SDXL, lora=True),
    "Teach a subject (app)": app_form,
    "Stage by stage": stages,
    "Concept with ControlNet": control_net,
    "Two concepts": two_concepts,
    "Prior images": prior_images,
    "Masks and captions": masks_and_captions,
    "No class images": no_class_images,
    "Extract LoRA": extract_lora,
    "Compare stages": compare_stages,
    "Evaluate a concept": evaluate_concept,
    "Evaluate a concept (SD 1.5)": evaluate_saved,
    "Compare methods": compare_methods,
    "Which step was best": best_step,
}
"""By the name of their file in workflows/."""
