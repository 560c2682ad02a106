"""`python benchmarks/chosen_by.py`: how well a choice by CLIP scores finds what is truly best.

For each concept of the table (benchmarks/contest/evaluated) its methods are put in order by what
*Evaluate Concept* can choose by, measured by the micro CLIP on the kept pictures, and by *joint*,
the score against the true renderings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from ..attndb.evaluation.prompts import context, whole
from ..attndb.evaluation.score_table import BEST_BY, high_in_both, merit
from ..attndb.evaluation.scores import CONTEXT, IDENTITY, Reference, Sample, Scores, score
from ..devkit.host_path import host_on_path
from ..micro.clip_encoder import MicroClipEncoder
from ..micro.concepts import CONCEPTS, Concept
from ..micro.text import host_captions
from .contest.pictures import shown_prompts, strip_path
from .contest.rows import COMMITTED, Row
from .contest.table import BASE, ORACLE
from .document import committed

LEFT_OUT = (ORACLE, BASE)
"""Rows that nobody trained."""
HEAD = "| chosen by | order (Spearman) | joint of its best | joint of the best |\n|---|---|---|---|"


def pictures_of(strip: Path) -> list[Tensor]:
    """The square pictures (Y, X, 3) in 0..1 that lie side by side in a file."""
    with Image.open(strip) as opened:
        pixels = torch.from_numpy(np.array(opened.convert("RGB"))) / 255.0
    return list(pixels.split(pixels.shape[0], dim=1))


def scores_of(row: Row, strip: Path, concept: Concept, encoder: MicroClipEncoder) -> Scores:
    """What *Evaluate Concept* says of a row's kept pictures."""
    texts = [prompt.text("{}", concept) for prompt in shown_prompts()]
    samples = [
        Sample(picture=picture, text=whole(text, concept.category), context=context(text))
        for picture, text in zip(pictures_of(strip), texts, strict=True)
    ]
    photos = [torch.from_numpy(drawn.picture) / 255.0 for drawn, _ in concept.photos(row.places)]
    return score(row.method, samples, Reference(photos=photos), [encoder])


def merits(found: Scores) -> dict[str, float]:
    """By every rule of the node, and by identity with what is said beside the subject."""
    values = {by: merit(found, by) or 0.0 for by in BEST_BY}
    beside = high_in_both(found.value(IDENTITY), found.value(CONTEXT))
    return {**values, "identity and context": beside or 0.0}


def lines(concepts: Sequence[Sequence[tuple[float, Mapping[str, float]]]]) -> list[str]:
    """The table in Markdown. concepts: of each, its methods' true scores and merits by rule."""
    table = [HEAD]
    for rule in concepts[0][0][1]:
        orders, chosen, best = [], [], []
        for methods in concepts:
            true, found = [joint for joint, _ in methods], [by[rule] for _, by in methods]
            orders.append(float(np.asarray(spearmanr(found, true))[0]))
            chosen.append(true[int(np.argmax(found))])
            best.append(max(true))
        means = (float(np.mean(values)) for values in (orders, chosen, best))
        table.append(f"| {rule} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return table


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="chosen_by", description=__doc__)
    parser.add_argument("--rows", type=Path, default=COMMITTED, help="folder of the table's rows")
    folder = parser.parse_args(arguments).rows
    host_on_path()
    from ..micro.shipped import load_micro_clip

    encoder = MicroClipEncoder(load_micro_clip(host_captions()))
    by_concept: dict[str, list[tuple[float, Mapping[str, float]]]] = {}
    for row in committed("many", folder):
        strip = strip_path(folder, row)
        if row.method not in LEFT_OUT and strip.is_file():
            found = scores_of(row, strip, CONCEPTS[row.concept], encoder)
            by_concept.setdefault(row.concept, []).append((row.values["joint"], merits(found)))
    concepts = list(by_concept.values())
    if not concepts:
        raise SystemExit(
            f"chosen_by: no row in {folder} has a picture and is of the weights, prompts and "
            "recipes that docs/evaluation.md shows"
        )
    print(f"{sum(map(len, concepts))} trainings of {len(concepts)} concepts\n", flush=True)
    print("\n".join(lines(concepts)), flush=True)
    return 0
