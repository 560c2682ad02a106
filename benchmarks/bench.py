"""Step time and peak memory of training, ours and the published step, side by side on the CPU.

    python dev.py bench [--quick] [--full] [--json FILE]
    python dev.py bench --recipe [--quick] [--json FILE]

--quick: the small sizes, a few rounds, under 5 minutes on two cores. --full adds SD 2.1 at its
full size (256 px, batch 1; needs 24 GB; stage 3 in a process for each side). --recipe times whole
trainings instead of steps, from photos and checkpoint file to the saved concept. For a CUDA card:
benchmarks/gpu.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import dataclasses
import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil

from ..devkit.host_path import host_on_path
from ..devkit.pack import ROOT

if TYPE_CHECKING:
    from .comparison import Counted

QUICK_ROUNDS = {"micro": 5, "sd15-small": 1, "sd21": 1}
ROUNDS = {"micro": 25, "sd15-small": 7, "sd21": 3}
STAGES = (1, 2, 3)
NOT_TOGETHER = {"sd21": (3,)}
"""Stages whose two sides do not fit into memory at once: each is timed in a process of its own."""
SIDES = ("ours", "published")


def main(arguments: Sequence[str]) -> int:
    """Prints the table; with --json writes the rows as well."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--full", action="store_true", help="also SD 2.1 at its full size")
    parser.add_argument("--only", choices=list(ROUNDS), help="this size alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--recipe", action="store_true", help="whole trainings, not steps")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "recipe")
    parser.add_argument("--recipe-of", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--times-of", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    host_on_path()
    if options.memory_of:
        print(json.dumps(memory(options.memory_of, options.only)))
        return 0
    if options.times_of:
        found = times(options.times_of, options.only)
        print(json.dumps({case: dataclasses.asdict(counted) for case, counted in found.items()}))
        return 0
    if options.recipe_of:
        side, precision = options.recipe_of
        print(json.dumps(recipe_side(side, precision, options.work, options.quick)))
        return 0
    if options.recipe:
        return recipe(options)
    names = [options.only] if options.only else list(ROUNDS)[: 3 if options.full else 2]
    rows: list[dict[str, Any]] = []
    from . import comparison

    if missing := comparison.left_out():
        print(missing, flush=True)
    ceilings = matmul_ceilings()
    for precision, gflops in ceilings.items():
        print(f"a large matrix product in {precision}: {gflops:.0f} GFLOP/s", flush=True)
    print("memory ...", file=sys.stderr, flush=True)
    peaks = peaks_of(names)
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = measured(name, (QUICK_ROUNDS if options.quick else ROUNDS)[name], peaks)
        for row in found:
            row["share_of_ceiling"] = row["gflops_ours"] / ceilings[row["precision"]]
        print(table(found, header=not rows), flush=True)
        rows += found
    if options.json:
        options.json.write_text(
            json.dumps(report(rows, ceilings), indent=1) + "\n", encoding="utf-8"
        )
    return 0


def recipe(options: argparse.Namespace) -> int:
    """The table of whole trainings, each in a process of its own."""
    from . import comparison, measure
    from .recipe import prepared, row
    from .sizes import sd15_small

    if missing := comparison.left_out():
        print(missing, flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    prepared(options.work)

    def told(side: str, precision: str) -> Any:
        print(f"{side}, {precision} ...", file=sys.stderr, flush=True)
        quick = ["--quick"] if options.quick else []
        arguments = ("--recipe-of", side, precision, "--work", str(options.work), *quick)
        return measure.said_apart(__file__, *arguments)

    theirs = told("published", "fp32")
    rows = [row(sd15_small(), p, told("ours", p), theirs) for p in comparison.precisions()]
    print(json.dumps(rows, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report(rows, {}), indent=1) + "\n", encoding="utf-8")
    return 0


def recipe_side(side: str, precision: str, work: Path, quick: bool) -> dict[str, Any]:
    """What one side of a whole training takes, in this process."""
    from .recipe import QUICK, SHORTER, in_fresh_folder
    from .sizes import sd15_small

    return in_fresh_folder(side, sd15_small(), precision, work, QUICK if quick else SHORTER)


def peaks_of(names: Sequence[str]) -> dict[tuple[str, str], dict[str, float]]:
    """Peak memory by side and size, each from a process of its own. Small ones two at a time: that
    changes time and not memory."""
    cases = [(side, name) for name in names for side in SIDES]
    with ThreadPoolExecutor(1 if "sd21" in names else 2) as pool:
        return dict(zip(cases, pool.map(lambda case: memory_apart(*case), cases), strict=True))


def measured(
    name: str, rounds: int, peaks: Mapping[tuple[str, str], dict[str, float]]
) -> list[dict[str, Any]]:
    """Rows of a size: times from this process where both sides fit into it, with the peaks."""
    from . import comparison

    size, apart = size_of(name), NOT_TOGETHER.get(name, ())
    rows = []
    if apart:  # first: what this process has had might leave too little
        ours, theirs = (times_apart(side, name) for side in SIDES)
        for stage in apart:
            for precision in comparison.precisions():
                rows.append(comparison.row_apart(size, stage, precision, ours, theirs))
    together = [stage for stage in STAGES if stage not in apart]
    rows = comparison.times_of(size, together, rounds) + rows
    for row in rows:
        ours = peaks["ours", name][f"{row['stage']}/{row['precision']}"]
        row["memory_ours_mb"] = round(ours, 1)
        row["memory_published_mb"] = round(peaks["published", name][f"{row['stage']}/fp32"], 1)
    return rows


def matmul_ceilings() -> dict[str, float]:
    """GFLOP/s that this machine gives in practice, by precision."""
    import torch

    from . import comparison, measure

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    cpu = torch.device("cpu")
    return {
        name: measure.matmul_ceiling(cpu, dtypes[name], 2048) / 1e9
        for name in comparison.precisions()
    }


def size_of(name: str) -> Any:
    """The size of that name."""
    from . import sizes

    return {"micro": sizes.micro, "sd15-small": sizes.sd15_small, "sd21": sizes.sd21}[name]()


def memory_apart(side: str, name: str) -> dict[str, float]:
    """What `memory` says in a fresh process."""
    from . import measure

    return measure.said_apart(__file__, "--memory-of", side, "--only", name, frugal=True)


def memory(side: str, name: str) -> dict[str, float]:
    """Peak MB by `stage/precision`, above the process with its libraries loaded."""
    from . import comparison

    size = size_of(name)
    baseline = psutil.Process().memory_info().rss
    return getattr(comparison, f"memory_of_{side}")(size, STAGES, baseline)


def times_apart(side: str, name: str) -> dict[str, Counted]:
    """What `times` says in a fresh process."""
    from . import comparison, measure

    found = measure.said_apart(__file__, "--times-of", side, "--only", name)
    return {case: comparison.Counted(**values) for case, values in found.items()}


def times(side: str, name: str) -> dict[str, Counted]:
    """Of the stages whose two sides do not fit together, by `stage/precision`."""
    from . import comparison

    return getattr(comparison, f"times_of_{side}")(size_of(name), NOT_TOGETHER[name])


def table(rows: list[dict[str, Any]], header: bool) -> str:
    """Rows for the screen."""
    lines = []
    if header:
        lines.append(
            f"{'size':<11}{'stage':>6}{'':>6}{'ours s':>9}{'publ. s':>9}{'ratio':>7}"
            f"{'CPU ratio':>11}{'no VAE':>8}{'reg. cost':>11}{'of ceiling':>12}"
            f"{'ours MB':>9}{'publ. MB':>10}"
        )
    for row in rows:
        lines.append(
            f"{row['size']:<11}{row['stage']:>6}{row['precision']:>6}{row['time_ours_s']:>9.3f}"
            f"{row['time_published_s']:>9.3f}{row['time_ratio']:>7.2f}"
            f"{row['processor_ratio']:>11.2f}{row['processor_ratio_without_encoding']:>8.2f}"
            f"{cost(row):>11}{row['share_of_ceiling']:>12.0%}"
            f"{row['memory_ours_mb']:>9.0f}{row['memory_published_mb']:>10.0f}"
        )
    return "\n".join(lines)


def cost(row: Mapping[str, Any]) -> str:
    """The regulariser's share of a step, where it was measured."""
    found = row["regularization_cost"]
    return "-" if found is None else f"{found:.1%}"


def report(rows: list[dict[str, Any]], ceilings: dict[str, float]) -> dict[str, Any]:
    """The rows with the circumstances."""
    import diffusers
    import torch

    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": platform.platform(terse=True),
        "processors": psutil.cpu_count(),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "versions": versions,
        "matmul_gflops": {name: round(value, 1) for name, value in ceilings.items()},
        "rows": [
            {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        ],
    }
