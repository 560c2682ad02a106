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
from typing import Any

from ..attndb.artifacts.tensor_file import text_writer, write_whole
from ..devkit.pack import ROOT
from ..micro.concepts import TUNING
from ..micro.scores import VERSION
from .contest.command import add_options, asked_by, beside, open_studio
from .contest.contestant import (
    BATCH,
    OURS,
    RECIPES,
    TITLES,
    Contestant,
    Kind,
    Pairs,
    contestant,
)
from .contest.search import FINALISTS, FIRST, Search
from .contest.standings import standings_lines
from .contest.table import Table
from .markdown import markdown


def _grid(steps: Sequence[int], rates: Sequence[float], *others: Pairs) -> tuple[Pairs, ...]:
    """Trials of a method of one stage."""
    return (*(((n, rate),) for n in steps for rate in rates), *others)


def _one(steps: int, rate: float) -> Pairs:
    return ((steps, rate),)


TRIALS: Mapping[Kind, tuple[Pairs, ...]] = {
    OURS: (
        ((120, 1e-2), (100, 2e-4), (300, 1e-4)),
        ((120, 5e-3), (100, 1e-4), (300, 5e-5)),
        ((120, 1e-2), (100, 4e-4), (300, 2e-4)),
        ((240, 1e-2), (200, 2e-4), (300, 1e-4)),
        ((120, 5e-3), (100, 1e-4), (600, 5e-5)),
        ((120, 1e-3), (100, 1e-4), (300, 5e-5)),
    ),
    "textual_inversion": _grid((300, 1000), (5e-3, 2e-2), _one(300, 1e-3), _one(1000, 1e-3)),
    "dreambooth": _grid((300, 600), (5e-5, 2e-4), _one(600, 1e-4), _one(1000, 5e-5)),
    "dreambooth lora": _grid((300, 600), (3e-4, 1e-3), _one(600, 3e-3), _one(1000, 3e-4)),
    "attndreambooth lora": (
        ((120, 5e-3), (100, 1e-3), (300, 3e-4)),
        ((120, 5e-3), (100, 1e-3), (300, 1e-3)),
        ((120, 5e-3), (100, 1e-3), (300, 3e-3)),
        ((120, 5e-3), (100, 3e-3), (300, 1e-3)),
        ((120, 5e-3), (100, 3e-3), (300, 3e-3)),
        ((120, 5e-3), (100, 1e-3), (600, 3e-4)),
    ),
    "ti_dreambooth": _grid((300, 600), (5e-5, 2e-4), _one(600, 1e-4), _one(1000, 5e-5)),
    "custom_diffusion": _grid((300, 600), (3e-5, 1e-4), _one(300, 3e-4), _one(1000, 1e-4)),
    "oft": _grid((300, 600), (2e-4, 1e-3), _one(300, 5e-5), _one(1000, 2e-4)),
    "neti": _grid((300, 600), (1e-3, 5e-3), _one(300, 2e-2), _one(1000, 1e-3)),
    "vico": _grid((200, 400), (1e-4, 1e-3), _one(400, 1e-5), _one(800, 1e-3)),
}
"""Six each, at batch 4: a grid and two beside or in it; of AttnDreamBooth, whose three stages have
no small grid, six that were picked."""


def trial(method: Kind, pairs: Pairs) -> Contestant:
    """A contestant whose name says its settings."""
    said = " ".join(f"{steps}@{rate:g}" for steps, rate in pairs)
    return contestant(method, pairs, f"{TITLES.get(method, method)} {said}")


def record(search: Search) -> dict[str, dict[str, Any]]:
    """The recipes and trials of contest/recipes.json."""
    return {
        "recipes": {kind: search.winner(kind).pairs for kind in search.trials},
        "trials": {kind: search.scores(kind) for kind in search.trials},
    }


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="search_recipes", description=str(__doc__).split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    add_options(parser, ROOT / ".cache" / "search", images=1)
    options = parser.parse_args(arguments)
    asked = asked_by(options)
    trials = {m: [trial(m, pairs) for pairs in TRIALS[m]] for m in options.methods}
    search = Search(Table(asked, options.rows), trials)
    with beside(options, __file__, arguments), open_studio(asked) as studio:
        search.run(studio)
    if options.beside:
        return 0
    sys.stdout.write(markdown(standings_lines(search.rows(search.everyone, TUNING))) + "\n\n")
    kept, found = json.loads(RECIPES.read_text(encoding="utf-8")), record(search)
    how = (
        f"best joint + truth of {len(TRIALS[OURS])} trials each on {len(FIRST)} tuning concepts, "
        f"of the best {FINALISTS} on {len(TUNING)}; {options.images} picture(s) a prompt, "
        f"batch {BATCH}, seed {options.seed}"
    )
    found["version of the scores"] = dict.fromkeys(search.trials, VERSION)
    whole = {"how": how, **{part: kept[part] | more for part, more in found.items()}}
    write_whole({RECIPES: text_writer(json.dumps(whole, indent=1) + "\n")})
    return 0
