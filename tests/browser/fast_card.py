"""The card of *Teach a subject (fast)*, by the embedded model: preset micro, with as much less of
stage 3 as in the fast recipe, two fifths of the steps at a higher rate.

    .venv/bin/python tests/browser/fast_card.py

Above the photos, below the subject in scenes that no photo shows.
"""

from __future__ import annotations

import sys
import tempfile
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

CARD = ROOT / "workflows" / "Teach a subject (fast).jpg"
STEPS, RATE = 120, 2e-4
"""Of stage 3; preset micro has 300 steps at 1e-4."""
SCENES = (
    "a photo of a {} in a forest",
    "a photo of a {} in the desert at sunset",
    "a photo of a {} in space",
    "a sketch of a {} on the beach",
    "a watercolour of a {} in the snow at night",
)


def main() -> int:
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    dataset = toy_photos(graph, "hatted-robot", "<my-robot>")
    photos = graph.add("PreviewImage", images=Node(str(int(dataset.id) - 1), {})[0])
    wires = {"model": base[0], "clip": base[1], "vae": base[2]}
    last = stage_by_stage(graph, wires, dataset)[-1]
    graph.prompt[last.id]["inputs"] |= {"steps": STEPS, "learning_rate": RATE}
    applied = apply(graph, base, last)
    drawn = [
        graph.sample(
            *(applied[0], applied[1], base[2], text.format("<my-robot> robot")),
            **{"size": 128, "seed": seed, "steps": 20, "cfg": 3.0},
        )
        for seed, text in enumerate(SCENES)
    ]
    with tempfile.TemporaryDirectory() as folder, HostServer(Path(folder)) as server:
        prompt = whole(graph.prompt, server.object_info())
        outcome = server.run(prompt, timeout=SECONDS)
        below = [picture for node in drawn for picture in shown(server, outcome, node.id)]
        card([shown(server, outcome, photos.id), below]).save(CARD, quality=90)
    print(f"{CARD} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
