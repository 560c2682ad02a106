"""`python benchmarks/search_recipes.py`: steps and rates of every method on attndb-micro.

Each method gets the same number of trials on the first two tuning concepts, and its best two on
the other two as well; the better one by joint + truth over all four goes into contest/recipes.json,
with all trials. Rows are kept: a stopped search goes on, and processes with the same --rows share.
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
from ..micro.concepts import TUNING, Concept
from .contest.contestant import BATCH, OURS, RECIPES, TITLES, Contestant, Pairs, contestant
from .contest.rows import Row
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
    "oft": _grid((300, 600), (2e-4, 1e-3)),
    "neti": _grid((300, 600), (1e-3, 5e-3)),
    "vico": _grid((200, 400), (5e-3, 2e-2)),
}
"""Four each, at batch 4."""
FIRST, THEN = TUNING[:2], TUNING[2:]
FINALISTS = 2
"""Trials of each method that see the other concepts, too."""


def trial(method: MethodName, pairs: Pairs) -> Contestant:
    """A contestant whose name says its settings."""
    said = " ".join(f"{steps}@{rate:g}" for steps, rate in pairs)
    return contestant(method, pairs, f"{TITLES.get(method, method)} {said}")


def best_of(scores: Mapping[str, Mapping[str, Any]], count: int = 1) -> list[str]:
    """The names with the highest joint + truth, the best first."""

    def height(name: str) -> float:
        return scores[name]["joint"].mean + scores[name]["truth"].mean

    return sorted(scores, key=height, reverse=True)[:count]


class Search:
    """All trials of some methods, and the rows that answer them."""

    def __init__(self, table: Table, methods: Sequence[MethodName]) -> None:
        self.table = table
        self.trials = {m: [trial(m, pairs) for pairs in TRIALS[m]] for m in methods}
        self.pairs = {trial(m, pairs).name: pairs for m in methods for pairs in TRIALS[m]}

    @property
    def everyone(self) -> list[Contestant]:
        """Of the first round."""
        return [c for trials in self.trials.values() for c in trials]

    def rows(self, contestants: Sequence[Contestant], concepts: Sequence[Concept]) -> list[Row]:
        """Of these, without those that nobody trains."""
        names = {c.name for c in contestants}
        return [r for r in self.table.found(contestants, concepts) if r.method in names]

    def finalists(self, method: MethodName) -> list[Contestant]:
        """The best of the first round."""
        trials = self.trials[method]
        names = best_of(standings(self.rows(trials, FIRST)), FINALISTS)
        return [c for c in trials if c.name in names]

    def run(self, studio: Studio) -> None:
        """Both rounds."""
        self.table.fill(studio, self.everyone, FIRST)
        self.table.fill(studio, [c for m in self.trials for c in self.finalists(m)], THEN)

    def record(self) -> dict[str, dict[str, Any]]:
        """The recipes and trials of contest/recipes.json."""
        found: dict[str, dict[str, Any]] = {"recipes": {}, "trials": {}}
        for method, trials in self.trials.items():
            last = standings(self.rows(self.finalists(method), TUNING))
            scores = standings(self.rows(trials, FIRST)) | last
            found["recipes"][method] = self.pairs[best_of(last)[0]]
            found["trials"][method] = {
                name: {"concepts": len(TUNING if name in last else FIRST)}
                | {score: round(value.mean, 4) for score, value in columns.items()}
                for name, columns in scores.items()
            }
        return found


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
    search = Search(Table(asked, options.rows), options.methods)
    with TemporaryDirectory() as folder, torch.inference_mode():
        search.run(Studio(Path(folder), images=options.images, precision=options.precision))
    sys.stdout.write(standings_table(search.rows(search.everyone, TUNING)) + "\n\n")
    kept, found = json.loads(RECIPES.read_text(encoding="utf-8")), search.record()
    how = (
        f"best joint + truth of {len(TRIALS[OURS])} trials each on {len(FIRST)} tuning concepts, "
        f"of the best {FINALISTS} on {len(TUNING)}; {options.images} picture(s) a prompt, "
        f"batch {BATCH}, seed {options.seed}"
    )
    record = {
        "how": how,
        **{part: kept[part] | found[part] for part in ("recipes", "trials")},
    }
    write_whole({RECIPES: text_writer(json.dumps(record, indent=1) + "\n")})
    return 0
