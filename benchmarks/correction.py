"""`python benchmarks/correction.py`: what *Apply Concept*'s embedding correction does to scores.

AttnDreamBooth on evaluation concepts of the embedded model, by the recorded recipe; then the same
concepts drawn with corrections from 0 to 1, on the same prompts and noise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import logging
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ..devkit.host_path import host_on_path
from ..micro.concepts import CONCEPTS, EVALUATION
from .contest.contestant import OURS, contestant, recipes
from .contest.standings import SCORES
from .contest.studio import Studio
from .markdown import markdown

log = logging.getLogger(__name__)

NOISE = 1000
"""Seed of the pictures' noise."""


def table(rows: dict[float, list[dict[str, float]]]) -> str:
    """Means over concepts in Markdown; `rows`: correction -> scores of each concept."""
    lines: list[tuple[str, ...]] = [("correction", *SCORES)]
    for correction, scores in rows.items():
        means = (f"{np.mean([s[name] for s in scores]):.3f}" for name in SCORES)
        lines.append((f"{correction:g}", *means))
    return markdown(lines)


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="correction.py", description=str(__doc__).split("\n")[0])
    names = [concept.name for concept in EVALUATION]
    parser.add_argument("--concepts", nargs="+", choices=sorted(CONCEPTS), default=names[:2])
    parser.add_argument("--corrections", nargs="+", type=float, default=[0, 0.1, 0.2, 0.4, 0.7, 1])
    parser.add_argument("--images", type=int, default=1, help="for each prompt")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    host_on_path(cpu=not torch.cuda.is_available())
    ours = contestant(OURS, recipes()[OURS])
    rows: dict[float, list[dict[str, float]]] = {c: [] for c in options.corrections}
    with TemporaryDirectory() as folder, torch.inference_mode():
        studio = Studio(Path(folder), images=options.images)
        for name in options.concepts:
            concept = CONCEPTS[name]
            learned, seconds = studio.train(ours, concept, "many", options.seed)
            log.info("%s: trained in %.0f s", name, seconds)
            for correction, scores in rows.items():
                pictures = studio.draw(concept, learned, correction, NOISE)
                scores.append(dict(studio.score(pictures, concept, "many").values))
    sys.stdout.write(table(rows) + "\n")
    return 0
