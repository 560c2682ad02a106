"""Training on a CUDA GPU at full size: time, FLOP/s, peak memory, whole recipes.

    python benchmarks/gpu.py [--piece PIECE ...] [--mode MODE ...] [--json FILE] [--steps N]
                             [--seconds S]
    python benchmarks/gpu.py --tables FILE

SD 2.1 (866 M, random weights), 512 px, the paper's batch of 8. Runs from a bare copy of the
repository and ComfyUI's tree in `.host/`, with the Python and PyTorch that are there. A GPU is
often lent for minutes: each piece (`stage-1` to `stage-3`, `paper`, `fast`) runs by itself, the
file is written after every row, and no row is begun after `--seconds`. A row that does not fit the
GPU, or fails, says so and the rest goes on. What a GPU has to decide (channels_last, compile, CUDA
graphs) is a mode; a row's first step is timed apart. The published step is measured in fp32 and,
for comparison, under bf16 autocast. `--tables` prints what is in such a file as tables for docs/.
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
import datetime
import json
import math
import time
from collections.abc import Iterator
from typing import Any

from ..devkit.host_path import host_on_path
from .card_tables import tables

PIECES = ("stage-1", "stage-2", "stage-3", "paper", "fast")


def main(arguments: Sequence[str]) -> int:
    """Prints rows as they come; with --json writes them all."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--steps", type=int, default=10, help="steps behind a median")
    parser.add_argument("--piece", choices=PIECES, action="append", help="default: all of them")
    parser.add_argument(
        "--mode", action="append", help="a way to run our step (card.MODES); default: all of them"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no row after these")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="print the tables of a --json")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with a tiny model")
    options = parser.parse_args(arguments)
    if options.tables:
        sys.stdout.write(tables(json.loads(options.tables.read_text(encoding="utf-8"))) + "\n")
        return 0
    host_on_path(cpu=options.dry_run)
    import torch

    if not (options.dry_run or torch.cuda.is_available()):
        raise SystemExit("no CUDA GPU here; --dry-run runs the same code on the CPU")
    from .card import MODES

    if unknown := set(options.mode or ()) - set(MODES):
        parser.error(f"--mode {sorted(unknown)[0]}: choose from {', '.join(MODES)}")
    device = torch.device("cpu" if options.dry_run else "cuda")
    for found in measured(device, options):
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(device: Any, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows so far with the circumstances, after each row."""
    import torch

    from . import card, measure, sizes

    start = time.monotonic()
    size = sizes.tiny() if options.dry_run else sizes.sd21().at(512, 8)
    side = 256 if options.dry_run else 8192
    ceilings = {
        name: measure.matmul_ceiling(device, dtype, side)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    pieces = options.piece or PIECES
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "device": measure.describe(device),
        "torch": torch.__version__,
        "size": size.name,
        "resolution": size.resolution,
        "batch": size.batch,
        "matmul_tflops": {name: value / 1e12 for name, value in ceilings.items()},
        "pieces": pieces,
        "complete": False,
        "rows": [],
        "recipes": [],
    }
    print(json.dumps({k: v for k, v in found.items() if k not in ("rows", "recipes")}), flush=True)
    stages = [stage for stage in (1, 2, 3) if f"stage-{stage}" in pieces]
    names = [name for name in ("paper", "fast") if name in pieces]
    rows = card.rows(size, device, options.steps, ceilings, stages, options.mode or ())
    recipes = card.recipes(size, device, options.dry_run, names)
    for kind, made in (("rows", rows), ("recipes", recipes)):
        for row in made:
            found[kind].append(row)
            print(json.dumps(row), flush=True)
            yield found
            if time.monotonic() - start > options.seconds:
                return
    found["complete"] = True
    yield found
