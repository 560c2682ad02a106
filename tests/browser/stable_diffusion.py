"""Shipped workflows on a Stable Diffusion checkpoint beside the main job."""

from __future__ import annotations

from notes import CONTROL_NOTE, EVALUATE_SD_NOTE, FAST_NOTE
from parts import (
    CANNY,
    LIVE,
    SAID,
    SD15,
    SD_VALUES,
    Spec,
    apply,
    drawing,
    group,
    ids,
    kept,
    note,
    room,
    sd_photos,
    sizes,
    titled,
)
from support.graph import Graph, Node

from attndreambooth.attndb.evaluation.prompts import SETS


def fast() -> Spec:
    """The main job by the published fast recipe, without pictures on the way."""
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=SD15["name"])
    dataset = sd_photos(graph)
    shown = titled(graph, graph.add("PreviewImage", images=dataset[1]), "Are the photos upright?")
    wires = {"model": base[0], "clip": base[1], "vae": base[2], "dataset": dataset[0]}
    train = graph.add("AttnDBAllStages", **wires, preset="fast")
    save = graph.add("AttnDBSaveConcept", concept=train[0], name="my-dog")
    applied = apply(graph, base, train)
    text = "a photo of a <my-dog> dog on the beach at sunset"
    drawn = drawing(graph, base, applied, [text], "my-dog", **SD_VALUES)
    left = "1  Model and photos"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, dataset, shown)),
            group("2  Learn, with 200 steps of stage 3", ids(train, save)),
            group(
                "3  Draw it anywhere",
                [*ids(applied), *drawn["words"]],
                [*drawn["samplers"], *drawn["saved"]],
            ),
        ],
        "sizes": sizes(graph) | {shown.id: [400, 270]},
        "room": room(graph, {int(train.id): LIVE, int(save.id): SAID}),
        "notes": [note(FAST_NOTE, left, 230)],
        "models": {base.id: [SD15]},
    }


def control_net() -> Spec:
    """A saved concept in the outlines of another picture, by a stock ControlNet."""
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=SD15["name"])
    concept = graph.add("AttnDBLoadConcept", name="my-dog")
    applied = apply(graph, base, concept)
    picture = graph.add("LoadImage", image="example.png")
    square = graph.add(
        "ImageScale",
        **{"image": picture[0], "upscale_method": "lanczos", "crop": "center"},
        **{"width": SD_VALUES["size"], "height": SD_VALUES["size"]},
    )
    edges = graph.add("Canny", image=square[0], low_threshold=0.2, high_threshold=0.5)
    shown = titled(graph, graph.add("PreviewImage", images=edges[0]), "The outlines to follow")
    net = graph.add("ControlNetLoader", control_net_name=CANNY["name"])
    text = {"string": "a photo of a {} on the beach at sunset", "find": "{}"}
    words = titled(graph, graph.add("StringReplace", **text, replace=concept[1]), "Prompt")
    drawn = drawing(graph, base, applied, [words[0]], "concept-with-controlnet", **SD_VALUES)
    titled(graph, Node(str(drawn["words"][0]), {}), "Prompt, in the concept's words")
    [sampler] = [key for key, node in graph.prompt.items() if node["class_type"] == "KSampler"]
    inputs = graph.prompt[sampler]["inputs"]
    follow = graph.add(
        "ControlNetApplyAdvanced",
        **{"positive": inputs["positive"], "negative": inputs["negative"]},
        **{"control_net": net[0], "image": edges[0]},
        **{"strength": 0.8, "start_percent": 0.0, "end_percent": 0.8},
    )
    inputs |= {"positive": follow[0], "negative": follow[1]}
    left = "1  Model and saved concept"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, concept, applied)),
            group("2  What the picture follows", ids(net, picture, square), ids(edges, shown)),
            group(
                "3  Draw",
                [*ids(words), *drawn["words"]],
                [*ids(follow), *drawn["samplers"]],
                drawn["saved"],
            ),
        ],
        "sizes": sizes(graph)
        | {words.id: [380, 200], concept.id: [400, 250], picture.id: [400, 360]}
        | {net.id: [400, 0], square.id: [400, 0], edges.id: [400, 0], shown.id: [400, 430]}
        | {follow.id: [380, 0]},
        "room": room(graph, {}),
        "notes": [note(CONTROL_NOTE, left, 230)],
        "models": {base.id: [SD15], net.id: [CANNY]},
    }


def evaluate_saved() -> Spec:
    """A saved concept at several strengths, scored over prompts against the user's photos."""
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=SD15["name"])
    concept = graph.add("AttnDBLoadConcept", name="my-dog")
    dataset = sd_photos(graph)
    photos = graph.add("AttnDBDatasetPhotos", dataset=dataset[0])
    prompts = graph.add("AttnDBPromptSet", prompts=next(iter(SETS)), count=6)
    encoder = graph.add("AttnDBLoadImageEncoder", folder="clip-vit-base-patch32")
    scored = graph.add(
        "AttnDBEvaluateConcept",
        **{"model": base[0], "clip": base[1], "vae": base[2], "concepts.concept_0": concept[0]},
        **{"encoders.encoder_0": encoder[0], "photos": photos[0], "prompts": prompts[0]},
        **{"images_per_prompt": 2, "steps": SD_VALUES["steps"], "cfg": SD_VALUES["cfg"]},
        **{"width": SD_VALUES["size"], "height": SD_VALUES["size"], "strengths": "1.0, 0.8, 0.6"},
    )
    saved, report = kept(graph, scored, photos, "my-dog")
    left = "1  Model, saved concept, its photos"
    return {
        "prompt": graph.prompt,
        "groups": [
            group(left, ids(base, concept, dataset, photos)),
            group("2  What to draw, what to compare by", ids(prompts, encoder)),
            group("3  Score", ids(scored)),
            group("4  Keep", ids(saved, report)),
        ],
        "sizes": sizes(graph)
        | {concept.id: [400, 250], photos.id: [400, 0], saved.id: [620, 620]}
        | {report.id: [480, 0], prompts.id: [380, 0], encoder.id: [380, 0]},
        "room": room(
            graph,
            {
                **dict.fromkeys(ids(scored, report), 2 * LIVE),
                **dict.fromkeys(ids(prompts, encoder), SAID),
            },
        ),
        "notes": [note(EVALUATE_SD_NOTE, left, 300)],
        "models": {base.id: [SD15]},
    }
