"""`python benchmarks/search_recipes.py`: steps and rates of every method on attndb-micro.

Each method gets the same number of trials on the four tuning concepts; its best by joint + truth
goes into contest/recipes.json, with all trials. Rows are kept: a stopped search goes on.
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
import json
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch

from ..attndb.artifacts.tensor_file import text_writer, write_whole
from ..attndb.config.choices import Precision
from ..attndb.config.methods import MethodName
from ..devkit.pack import ROOT, host_on_path
from ..micro.concepts import TUNING
from .contest.contestant import OURS, RECIPES, TITLES, Contestant, Pairs, contestant
from .contest.standings import standings, standings_table
from .contest.studio import Studio
from .contest.table import Asked, Table


def _grid(steps: Sequence[int], rates: Sequence[float]) -> tuple[Pairs, ...]:
    """Trials of a method of one stage."""
    return tuple(((n, rate),) for n in steps for rate in rates)


TRIALS: Mapping[MethodName, tuple[Pairs, ...]] = {
    OURS: (
        ((120, 1e-2), (100, 2e-4), (300, 1e-4)),
        ((120, 5e-3), (100, 1e-4), (300, 5e-5)),
        ((120, 1e-2), (100, 4e-4), (300, 2e-4)),
        ((240, 1e-2), (200, 2e-4), (300, 1e-4)),
    ),
    "textual_inversion": _grid((300, 1000), (5e-3, 2e-2)),
    "dreambooth": _grid((300, 600), (5e-5, 2e-4)),
    "ti_dreambooth": _grid((300, 600), (5e-5, 2e-4)),
    "custom_diffusion": _grid((300, 600), (3e-4, 1e-3)),
    "oft": _grid((300, 600), (3e-4, 1e-3)),
    "neti": _grid((300, 600), (1e-3, 5e-3)),
    "vico": _grid((200, 400), (5e-3, 2e-2)),
}
"""Four each, at batch 4."""


def trial(method: MethodName, pairs: Pairs) -> Contestant:
    """A contestant whose name says its settings."""
    said = " ".join(f"{steps}@{rate:g}" for steps, rate in pairs)
    return contestant(method, pairs, f"{TITLES.get(method, method)} {said}")


def best_of(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The name with the highest joint + truth."""
    return max(scores, key=lambda name: scores[name]["joint"].mean + scores[name]["truth"].mean)


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="search_recipes", description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    parser.add_argument("--images", type=int, default=1, help="for each prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: as PyTorch chooses")
    parser.add_argument("--rows", type=Path, default=ROOT / ".cache" / "search")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    host_on_path(cpu=not torch.cuda.is_available())
    asked = Asked(seed=options.seed, images=options.images, precision=options.precision)
    table = Table(asked, options.rows)
    record = json.loads(RECIPES.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder, torch.inference_mode():
        studio = Studio(Path(folder), images=options.images, precision=options.precision)
        for method in options.methods:
            trials = {trial(method, pairs).name: pairs for pairs in TRIALS[method]}
            contestants = [trial(method, pairs) for pairs in TRIALS[method]]
            table.fill(studio, contestants, TUNING)
            rows = [r for r in table.found(contestants, TUNING) if r.method in trials]
            sys.stdout.write(standings_table(rows) + "\n\n")
            scores = standings(rows)
            record["recipes"][method] = trials[best_of(scores)]
            record["trials"][method] = {
                name: {score: round(value.mean, 4) for score, value in columns.items()}
                for name, columns in scores.items()
            }
    record["how"] = (
        f"best joint + truth of {len(TRIALS[OURS])} trials each on {len(TUNING)} tuning concepts, "
        f"{options.images} picture(s) a prompt, batch 4, seed {options.seed}"
    )
    write_whole({RECIPES: text_writer(json.dumps(record, indent=1) + "\n")})
    return 0
