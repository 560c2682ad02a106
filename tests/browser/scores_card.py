"""The card of *Evaluate a concept (SD 1.5)*, by the embedded model: what its nodes say of a concept
that preset micro trained, at the same strengths.

    .venv/bin/python tests/browser/scores_card.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from author import whole
from graphs import GRAPHS
from parts import Spec
from result import SECONDS, card, shown
from score_row import score_row
from support.server import HostServer

from attndreambooth.devkit.pack import ROOT

NAME = "Evaluate a concept (SD 1.5)"
ASKED = ("strengths", "images_per_prompt")
"""What is evaluated as in that graph."""


def stand_in() -> tuple[Spec, str]:
    """The toy model's graph that evaluates, with its last stage alone at the other's strengths, and
    which of its nodes evaluates."""
    [asked] = _scoring(GRAPHS[NAME]()["prompt"]).values()
    prompt = GRAPHS["Evaluate a concept"]()["prompt"]
    [(key, node)] = _scoring(prompt).items()
    inputs = node["inputs"]
    stages = sorted(name for name in inputs if name.startswith("concepts."))
    inputs |= {stages[0]: inputs[stages[-1]], **{name: asked["inputs"][name] for name in ASKED}}
    for name in (*stages[1:], "masks"):  # a user has none
        del inputs[name]
    return prompt, key


def _scoring(prompt: Spec) -> Spec:
    return {k: n for k, n in prompt.items() if n["class_type"] == "AttnDBEvaluateConcept"}


def draw(server: HostServer) -> Path:
    """Writes the card, by a server that runs."""
    prompt, key = stand_in()
    outcome = server.run(whole(prompt, server.object_info()), timeout=SECONDS)
    rows = [shown(server, outcome, key), [score_row(outcome.outputs[key]["text"][0])]]
    path = ROOT / "workflows" / f"{NAME}.jpg"
    card(rows).save(path, quality=90)
    return path


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, HostServer(Path(folder)) as server:
        print(f"{draw(server)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
