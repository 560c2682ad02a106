"""`python demo/outlines.py`: Mask Subject against the true outlines of the embedded model's photos.

Every photo of every subject, at several noises: the mean and the least overlap (IoU), and that of a
mask that looks at nothing, as a table.
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
from torch import Tensor

from ..devkit.in_process import Graph
from ..devkit.pack import host_on_path
from ..micro.concepts import CONCEPTS

NOISES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
HEAD = "| noise | overlap, mean | least | below 0.5 |\n|---|---|---|---|\n"


def overlap(mask_YX: Tensor, truth_YX: Tensor) -> float:
    """Intersection over union of two masks, each parted at one half."""
    found, wanted = mask_YX > 0.5, truth_YX > 0.5
    return float((found & wanted).sum() / (found | wanted).sum())


def row(name: str, overlaps: Sequence[float]) -> str:
    """A line of the table, in Markdown."""
    mean, low = sum(overlaps) / len(overlaps), sum(value < 0.5 for value in overlaps)
    return f"| {name} | {mean:.2f} | {min(overlaps):.2f} | {low} of {len(overlaps)} |"


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="outlines.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("--concepts", nargs="+", choices=sorted(CONCEPTS), default=list(CONCEPTS))
    parser.add_argument("--noise", type=float, nargs="+", default=list(NOISES))
    parser.add_argument("--each", action="store_true", help="a line for each subject, too")
    options = parser.parse_args(arguments)
    host_on_path(cpu=not torch.cuda.is_available())
    with torch.inference_mode():
        graph = Graph()
        wires = dict(zip(("model", "clip", "vae"), graph("AttnDBLoadMicroModel"), strict=True))
        subjects = [graph("AttnDBMicroConcept", concept=name) for name in options.concepts]
        truths = torch.cat([truth for _, _, truth in subjects])
        # whoever marks what the photos have in common, wherever the subject is, gets this
        common = truths.mean(dim=0)
        sys.stdout.write(HEAD + row("(their mean)", [overlap(common, t) for t in truths]) + "\n")
        for noise in options.noise:
            masks = []
            for photos, category, _ in subjects:
                values = {**wires, "images": photos, "category": category, "noise": noise}
                masks += graph("AttnDBMaskSubject", **values)[0]
            found = [overlap(m[0], t) for m, t in zip(masks, truths, strict=True)]
            sys.stdout.write(row(f"{noise:g}", found) + "\n")
            parts = torch.tensor(found).split([len(photos) for photos, _, _ in subjects])
            for name, part in zip(options.concepts, parts, strict=True):
                if options.each:
                    sys.stdout.write(row(f"{noise:g}, {name}", part.tolist()) + "\n")
            sys.stdout.flush()
    return 0
