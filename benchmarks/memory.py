"""How true the memory estimate is, and what it says of full-size models on a GPU.

    python benchmarks/memory.py [--predict] [--json FILE]

Every stage is trained for two steps on the CPU, each case in a fresh process, and its peak is put
next to the estimate (sd15-small, 256 px, batch 2). --predict adds SD 1.5 and SD 2.1 at full size,
512 px, batch 8, and SDXL, 1024 px, batch 4, in bf16 on a CUDA GPU: these rows are estimates alone,
nothing of them was measured.
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
from typing import Any

import psutil

from ..devkit.host_path import host_on_path
from .markdown import markdown

HEAD = (
    "| stage | precision | mode | measured MB | estimated MB | ratio | step measured | "
    "step estimated | ratio |\n|---|---|---|---|---|---|---|---|---|"
)


def main(arguments: Sequence[str]) -> int:
    """Prints Markdown tables; with --json writes the rows as well."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--predict", action="store_true", help="full-size models on a GPU too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    host_on_path()
    from . import comparison, estimates, measure, sizes

    cases = estimates.cases()
    if options.case is not None:
        baseline = psutil.Process().memory_info().rss
        stage, precision, mode = cases[options.case]
        size = sizes.sd15_small()
        print(json.dumps(estimates.measured(size, stage, precision, mode, baseline)))
        return 0
    if missing := comparison.left_out():
        print(missing, flush=True)
    print(HEAD, flush=True)
    rows = []
    for index, (_, precision, _) in enumerate(cases):
        if precision not in comparison.precisions():
            continue
        rows.append(measure.said_apart(__file__, "--case", str(index), frugal=True))
        print(line(rows[-1]), flush=True)
    if options.predict:
        import torch

        card = torch.device("cuda")
        foreseen = list(estimates.predicted(card))
        print(f"\n{table(foreseen)}")
        rows += foreseen
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def line(row: dict[str, Any]) -> str:
    """A measured row. `step` is what is neither weights nor optimiser."""
    measured, estimated = row["measured_mb"], row["estimated_mb"]
    cells = [str(row["stage"]), row["precision"], row["mode"]]
    for lasting in (0.0, row["lasting_mb"]):
        took, said = measured - lasting, estimated - lasting
        cells += [f"{took:.0f}", f"{said:.0f}", f"{said / took:.2f}"]
    return f"| {' | '.join(cells)} |"


def table(rows: list[dict[str, Any]]) -> str:
    """GB by model and stage (down) and mode (across)."""
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    lines = [("model, stage", *modes)]
    for size, stage in dict.fromkeys((row["size"], row["stage"]) for row in rows):
        found = {
            row["mode"]: f"{row['estimated_mb'] / 1000:.1f}"
            for row in rows
            if (row["size"], row["stage"]) == (size, stage)
        }
        lines.append((f"{size}, {stage}", *(found.get(mode, "-") for mode in modes)))
    return markdown(lines)
