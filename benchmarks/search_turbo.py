"""`python benchmarks/search_turbo.py`: AttnDreamBooth on attndb-micro in a quarter of its steps.

Trials with a quarter of the recipe's samples in every stage (or moved towards stage 3), and so at
most a quarter of its FLOPs, on the tuning concepts like `search_recipes.py`; next to them the
recipe itself. All trials go into contest/turbo.json, and whether the best reaches the recipe's
joint score. Rows are kept: a stopped search goes on, and processes with the same --rows share.
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
import json
from dataclasses import replace
from typing import Any

from ..attndb.artifacts.tensor_file import text_writer, write_whole
from ..attndb.config.choices import Schedule
from ..attndb.config.stage import StageConfig
from ..devkit.pack import ROOT
from ..micro.concepts import TUNING
from ..micro.scores import VERSION
from .contest.command import add_options, asked_by, beside, open_studio
from .contest.contestant import BATCH, OURS, Contestant, recipes
from .contest.search import FIRST, Search
from .contest.standings import standings_lines
from .contest.table import Table
from .markdown import markdown
from .search_recipes import trial

RECORD = Path(__file__).parent / "contest" / "turbo.json"
KIND = "turbo"
QUARTER = 4
FINALISTS = 3


def shorter(
    name: str,
    recipe: Contestant,
    *,
    rate: float = 1.0,
    schedule: Schedule = "constant",
    steps: Sequence[int] = (),
    **settings: Any,
) -> Contestant:
    """The recipe with a quarter of its steps (or these), its rates times `rate`, a schedule with a
    warm-up of a tenth, and settings of all stages."""
    counts = steps or [c.steps // QUARTER for c in recipe.stages]

    def stage(config: StageConfig, count: int) -> StageConfig:
        own = config.optimizer
        optimizer = replace(
            own,
            learning_rate=own.learning_rate * rate,
            schedule=schedule,
            warmup_steps=0 if schedule == "constant" else count // 10,
        )
        return config.with_(steps=count, optimizer=optimizer, **config.applicable(settings))

    stages = tuple(stage(*pair) for pair in zip(recipe.stages, counts, strict=True))
    return Contestant(name=name, stages=stages)


def turbos(recipe: Contestant) -> list[Contestant]:
    """The trials: what usually lets a short training go further, one thing after the other."""
    first, second, third = (c.steps // QUARTER for c in recipe.stages)
    moved = first - first // 3 + second - second // 3
    decayed: dict[str, Any] = {"rate": 2.0, "schedule": "cosine"}

    def late(rate: int, parts: int = 1) -> Contestant:
        """Most steps in stage 3, as many as cost no more (see the test); `parts`: 2 for twice the
        steps at half the batch."""
        steps = (first // 3, second // 3, third + moved * 2 // 3)
        own: dict[str, Any] = {} if parts == 1 else {"batch_size": BATCH // parts}
        said = f", batch {BATCH // parts}" if own else ""
        return shorter(
            f"quarter, rates x{rate} cosine, two thirds of stages 1 and 2 in 3{said}",
            recipe,
            rate=float(rate),
            schedule="cosine",
            steps=[parts * count for count in steps],
            **own,
        )

    return [
        shorter("quarter", recipe),
        shorter("quarter, rates x2", recipe, rate=2.0),
        shorter("quarter, rates x4", recipe, rate=4.0),
        shorter("quarter, rates x2 cosine", recipe, **decayed),
        shorter("quarter, rates x4 cosine", recipe, rate=4.0, schedule="cosine"),
        shorter("quarter, rates x2 cosine, EMA .9", recipe, **decayed, ema_decay=0.9),
        shorter("quarter, rates x2 cosine, min-SNR 5", recipe, **decayed, min_snr_gamma=5.0),
        shorter(
            "quarter, rates x2 cosine, batch 2",
            recipe,
            **decayed,
            batch_size=2,
            steps=(2 * first, 2 * second, 2 * third),
        ),
        shorter(
            "quarter, rates x2 cosine, half of stage 2 in 3",
            recipe,
            **decayed,
            steps=(first, second // 2, third + second // 4),
        ),
        *(late(rate) for rate in (4, 6, 8, 12, 16)),
        *(late(rate, parts=2) for rate in (6, 12)),
        *(late(rate, parts=4) for rate in (3, 6)),
    ]


def record(search: Search, recipe: Contestant) -> dict[str, Any]:
    """All trials with their settings, and the best one next to the recipe."""
    winner = search.winner(KIND)
    joint = {c.name: search.means(c)["joint"] for c in (recipe, winner)}
    return {
        "recipe": {"name": recipe.name, **search.means(recipe)},
        "best": winner.name,
        "reaches_the_recipe": joint[winner.name] >= joint[recipe.name],
        "share_of_samples": {
            c.name: round(c.samples / recipe.samples, 3) for c in search.trials[KIND]
        },
        "trials": search.scores(KIND),
        "settings": {c.name: [stage.identity() for stage in c.stages] for c in search.trials[KIND]},
    }


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="search_turbo", description=str(__doc__).split("\n")[0])
    add_options(parser, ROOT / ".cache" / "search", images=1)
    options = parser.parse_args(arguments)
    asked = asked_by(options)
    recipe = trial(OURS, recipes()[OURS])
    search = Search(Table(asked, options.rows), {KIND: turbos(recipe)}, FINALISTS)
    with beside(options, __file__, arguments), open_studio(asked) as studio:
        search.table.fill(studio, [recipe], TUNING)
        search.run(studio)
    if options.beside:
        return 0
    rows = search.rows([recipe, *search.everyone], TUNING)
    sys.stdout.write(markdown(standings_lines(rows)) + "\n")
    how = (
        f"{len(search.everyone)} trials on {len(FIRST)} tuning concepts, the best {FINALISTS} on "
        f"{len(TUNING)}; {options.images} picture(s) a prompt, seed {options.seed}, "
        f"version {VERSION} of the scores"
    )
    text = json.dumps({"how": how, **record(search, recipe)}, indent=1)
    write_whole({RECORD: text_writer(text + "\n")})
    return 0
