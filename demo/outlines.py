"""`python demo/outlines.py`: Mask Subject against the true outlines of the embedded model's photos.

Every photo of every subject, at several noises: the mean and the least overlap (IoU), as a table;
above them that of a mask that looks at nothing, and that of the true outlines at as few places as
attention has.
The node's layers, noise and filter were chosen on the tuning subjects.
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

import torch
import torch.nn.functional as F
from torch import Tensor

from ..devkit.host_path import host_on_path
from ..devkit.in_process import Graph
from ..micro.concepts import CONCEPTS, EVALUATION, TUNING

NOISES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
PLACES = 8  # along a side of the finest attention of the embedded model
SETS = {
    "all": list(CONCEPTS),
    "evaluation": [concept.name for concept in EVALUATION],
    "tuning": [concept.name for concept in TUNING],
}
HEAD = "| noise | overlap, mean | least | below 0.5 |\n|---|---|---|---|\n"


def overlap(mask_YX: Tensor, truth_YX: Tensor) -> float:
    """Intersection over union of two masks, each parted at one half."""
    found, wanted = mask_YX > 0.5, truth_YX > 0.5
    return float((found & wanted).sum() / (found | wanted).sum())


def at_places(truth_YX: Tensor) -> Tensor:
    """A mask's shares at the places of attention, scaled up again."""
    places = F.adaptive_avg_pool2d(truth_YX[None, None].float(), PLACES)
    return F.interpolate(places, size=truth_YX.shape[-2:], mode="bicubic")[0, 0]


def row(name: str, overlaps: Sequence[float]) -> str:
    """A line of the table, in Markdown."""
    mean, low = sum(overlaps) / len(overlaps), sum(value < 0.5 for value in overlaps)
    return f"| {name} | {mean:.2f} | {min(overlaps):.2f} | {low} of {len(overlaps)} |"


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="outlines.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("--subjects", choices=list(SETS), default="all")
    parser.add_argument("--concepts", nargs="+", choices=sorted(CONCEPTS), help="these alone")
    parser.add_argument("--noise", type=float, nargs="+", default=list(NOISES))
    parser.add_argument("--each", action="store_true", help="a line for each subject, too")
    options = parser.parse_args(arguments)
    names = options.concepts or SETS[options.subjects]
    host_on_path(cpu=not torch.cuda.is_available())
    with torch.inference_mode():
        graph = Graph()
        wires = dict(zip(("model", "clip", "vae"), graph("AttnDBLoadMicroModel"), strict=True))
        subjects = [graph("AttnDBMicroConcept", concept=name) for name in names]
        truths = torch.cat([truth for _, _, truth in subjects])
        # whoever marks what the photos have in common, wherever the subject is, gets this
        common = truths.mean(dim=0)
        sys.stdout.write(HEAD + row("(their mean)", [overlap(common, t) for t in truths]) + "\n")
        coarse = [overlap(at_places(t), t) for t in truths]
        sys.stdout.write(row(f"(the truth at {PLACES} x {PLACES})", coarse) + "\n")
        for noise in options.noise:
            masks = []
            for photos, category, _ in subjects:
                values = {**wires, "images": photos, "category": category, "noise": noise}
                masks += graph("AttnDBMaskSubject", **values)[0]
            found = [overlap(m[0], t) for m, t in zip(masks, truths, strict=True)]
            sys.stdout.write(row(f"{noise:g}", found) + "\n")
            parts = torch.tensor(found).split([len(photos) for photos, _, _ in subjects])
            for name, part in zip(names, parts, strict=True):
                if options.each:
                    sys.stdout.write(row(f"{noise:g}, {name}", part.tolist()) + "\n")
            sys.stdout.flush()
    return 0
