"""The cards of graphs that need a Stable Diffusion model, by the embedded model: what their nodes
do with its photos and preset micro.

    .venv/bin/python tests/browser/stand_in.py

Above the photos, below the subject in scenes that no photo shows; the fast recipe's card is of
preset micro with as much less of stage 3, two fifths of the steps at a higher rate, that of the
LoRA of preset micro-lora.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from author import whole
from parts import apply, toy_photos
from result import SECONDS, card, shown
from side_by_side import stage_by_stage
from support.graph import Graph, Node
from support.server import HostServer

from attndreambooth.devkit.pack import ROOT

STEPS, RATE = 120, 1e-4
"""Of the fast stage 3; preset micro has 300 steps."""
SCENES = (
    "a photo of a {} in a forest",
    "a photo of a {} in the desert at sunset",
    "a photo of a {} in space",
    "a sketch of a {} on the beach",
    "a watercolour of a {} in the snow at night",
)
OTHERS = (
    "a photo of a {} on a stage",
    "pixel art of a {} in a meadow",
    "a photo of a {} next to a small blue boat in the desert",
)


def draws(graph: Graph, base: Node, concept: Node, scenes: Sequence[str]) -> list[Node]:
    """A picture of the subject in each scene."""
    applied = apply(graph, base, concept)
    return [
        graph.sample(
            *(applied[0], applied[1], base[2], text.format("<my-robot> robot")),
            **{"size": 128, "seed": seed, "steps": 20, "cfg": 3.0},
        )
        for seed, text in enumerate(scenes)
    ]


def main() -> int:
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    photos = graph.add("PreviewImage", images=Node(str(int(dataset.id) - 1), {})[0])
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    stages = stage_by_stage(graph, wires, dataset)
    third = graph.prompt[stages[-1].id]
    fast = {**third["inputs"], "steps": STEPS, "learning_rate": RATE}
    shorter = graph.add(third["class_type"], **fast)
    thin = graph.add("AttnDBAllStages", **wires, dataset=dataset[0], preset="micro-lora")
    after = {f"After stage {n}": draws(graph, base, one, SCENES) for n, one in enumerate(stages, 1)}
    last = list(after.values())[-1]
    cards: dict[str, Mapping[str, list[Node]]] = {
        "Teach a subject": {"": last},
        "Teach a subject (app)": {"": draws(graph, base, stages[-1], OTHERS)},
        "Teach a subject (fast)": {"": draws(graph, base, shorter, SCENES)},
        "Teach a subject (LoRA)": {"": draws(graph, base, thin, SCENES)},
        "Stage by stage": after,
    }
    with tempfile.TemporaryDirectory() as folder, HostServer(Path(folder)) as server:
        outcome = server.run(whole(graph.prompt, server.object_info()), timeout=SECONDS)
        above = shown(server, outcome, photos.id)
        for name, rows in cards.items():
            below = [
                [picture for node in row for picture in shown(server, outcome, node.id)]
                for row in rows.values()
            ]
            path = ROOT / "workflows" / f"{name}.jpg"
            card([above, *below], titles=["", *rows]).save(path, quality=90)
            print(f"{path} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
