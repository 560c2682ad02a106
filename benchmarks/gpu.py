"""Training on a CUDA card at full size: time, FLOP/s, peak memory, whole recipes.

    python benchmarks/gpu.py [--json FILE] [--steps N] [--skip-recipes]

SD 2.1 (866 M, random weights), 512 px, the paper's batch of 8. Runs from the repository alone, in
the environment of `python dev.py setup`. A row that does not fit the card says so and the rest
goes on. The published step is measured in fp32 and, for comparison, under bf16 autocast.
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
from typing import Any

from ..devkit.pack import host_on_path


def main(arguments: Sequence[str]) -> int:
    """Prints rows as they come; with --json writes them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--steps", type=int, default=10, help="steps behind a median")
    parser.add_argument("--skip-recipes", action="store_true", help="no whole trainings")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with a tiny model")
    options = parser.parse_args(arguments)
    host_on_path(cpu=options.dry_run)
    import torch

    if not (options.dry_run or torch.cuda.is_available()):
        raise SystemExit("no CUDA card here; --dry-run runs the same code on the CPU")
    device = torch.device("cpu" if options.dry_run else "cuda")
    found = measured(device, options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(device: Any, options: argparse.Namespace) -> dict[str, Any]:
    """All rows with the circumstances."""
    import torch

    from . import card, measure, sizes

    size = sizes.tiny() if options.dry_run else sizes.sd21().at(512, 8)
    side = 256 if options.dry_run else 8192
    ceilings = {
        name: measure.matmul_ceiling(device, dtype, side)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "device": measure.describe(device),
        "torch": torch.__version__,
        "size": size.name,
        "resolution": size.resolution,
        "batch": size.batch,
        "matmul_tflops": {name: value / 1e12 for name, value in ceilings.items()},
        "rows": [],
        "recipes": [],
    }
    print(json.dumps({k: v for k, v in found.items() if k not in ("rows", "recipes")}), flush=True)
    for row in card.rows(size, device, options.steps, ceilings):
        found["rows"].append(row)
        print(json.dumps(row), flush=True)
    if not options.skip_recipes:
        for row in card.recipes(size, device, quick=options.dry_run):
            found["recipes"].append(row)
            print(json.dumps(row), flush=True)
    return found
