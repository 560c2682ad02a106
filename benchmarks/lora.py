"""A training step with a LoRA next to one of the whole U-Net and to LoRAs that are made otherwise.

    python benchmarks/lora.py [--size sd15-small] [--rank 8] [--rounds 5] [--json FILE]

Rows: stage and precision, with CPU seconds of a step of the whole weights, of a LoRA whose
changed weights are formed, W + U D, and of ours, W x + U (D x). All are timed in turn, on the CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch

from ..attndb.config.choices import Precision
from ..attndb.methods import low_rank
from ..attndb.training.training import Training
from ..devkit.host_path import host_on_path
from ..devkit.training import training_of

log = logging.getLogger(__name__)

CPU = torch.device("cpu")


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="lora.py", description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", choices=["tiny", "micro", "sd15-small"], default="sd15-small")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    options = parser.parse_args(arguments)
    host_on_path()
    rows = rows_of(options.size, options.rank, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def rows_of(name: str, rank: int, rounds: int) -> list[dict[str, Any]]:
    """A row for stages 2 and 3 in each precision."""
    from . import comparison, sizes

    if missing := comparison.left_out():
        log.info("%s", missing)
    size = {"tiny": sizes.tiny, "micro": sizes.micro, "sd15-small": sizes.sd15_small}[name]()
    rows = []
    for stage in (3, 2):
        for precision in comparison.precisions():
            rows.append(row(size, stage, precision, rank, rounds))
            log.info("%s", line(rows[-1]))
    return rows


def row(size: Any, stage: int, precision: Precision, rank: int, rounds: int) -> dict[str, Any]:
    """One stage in one precision."""
    from .measure import describe, time_in_turn
    from .ours import our_batch
    from .sizes import inputs_of

    batch = our_batch(inputs_of(size, 0))
    with ExitStack() as entered:
        steps: dict[str, Callable[[], object]] = {}
        for kind in ("whole", "formed", "lora"):
            training = entered.enter_context(training_with(size, stage, precision, kind, rank))
            steps[kind] = lambda training=training: training.step(0, batch).read()
        timed = time_in_turn(steps, rounds, CPU, warmup=1)
    return {
        "size": size.name,
        "resolution": size.resolution,
        "batch": size.batch,
        "stage": stage,
        "precision": precision,
        "rank": rank,
        **{f"processor_{kind}_s": timing.processor for kind, timing in timed.items()},
        **{f"time_{kind}_s": timing.wall for kind, timing in timed.items()},
        "ratio_to_whole": timed["whole"].processor / timed["lora"].processor,
        "ratio_to_formed": timed["formed"].processor / timed["lora"].processor,
        "device": describe(CPU),
    }


def training_with(size: Any, stage: int, precision: Precision, kind: str, rank: int) -> Training:
    """`whole`: no LoRA; `formed`: one whose layers form the changed weight; `lora`: ours."""
    from .ours import initial_vector, our_backend, stage_config
    from .sizes import weights_of

    backend = our_backend(size, weights_of(size), CPU)
    changes: dict[str, Any] = {} if kind == "whole" else {"lora_rank": rank}
    config = stage_config(stage, size, precision, **changes)
    vector = initial_vector(backend)
    if kind != "formed":
        return training_of(backend, config, vector)
    with mock.patch.object(low_rank, "front_of", return_value=None):
        return training_of(backend, config, vector)


def line(row: dict[str, Any]) -> str:
    """A row for the screen."""
    return (
        f"{row['size']} stage {row['stage']} {row['precision']} rank {row['rank']}: whole "
        f"{row['processor_whole_s']:.3f} s, weights formed {row['processor_formed_s']:.3f} s, LoRA "
        f"{row['processor_lora_s']:.3f} s (CPU time); {row['ratio_to_whole']:.2f} and "
        f"{row['ratio_to_formed']:.2f} times as fast"
    )
