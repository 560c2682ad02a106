"""`python benchmarks/checkpoints.py`: what a checkpoint costs the training that it protects.

Stage 3 of sd15-small in a run folder: processor and wall time of a step, of a checkpoint written
before the next step, and of one that is copied and written beside it. From the bytes and these
rates it says what SD 2.1 would take here.
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
import logging
import statistics
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..attndb.training.run import Run
from ..devkit.host_path import host_on_path
from ..devkit.pack import ROOT
from ..devkit.training import training_of

log = logging.getLogger(__name__)

SD21 = 865_910_724
"""Trained weights of SD 2.1's U-Net in stage 3."""
EVERY = 100


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="checkpoints.py", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache", help="on the disk to time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args(arguments)
    host_on_path()
    found = measured("sd15-small", options.rounds, options.folder)
    sys.stdout.write(text(found) + "\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(name: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Medians in seconds of the wall, and bytes."""
    from . import sizes
    from .ours import initial_vector, our_backend, our_batch, stage_config

    size = {"tiny": sizes.tiny, "sd15-small": sizes.sd15_small}[name]()
    backend = our_backend(size, sizes.weights_of(size), torch.device("cpu"))
    batch = our_batch(sizes.inputs_of(size, 0))
    config = stage_config(3, size, "fp32")
    taken: dict[str, list[float]] = {}

    def timed(what: str, call: Callable[[], object]) -> None:
        start = time.perf_counter()
        call()
        taken.setdefault(what, []).append(time.perf_counter() - start)

    folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(dir=folder) as place,
        Run(Path(place), {}, every=0) as run,
        training_of(backend, config, initial_vector(backend)) as training,
    ):
        for round_ in range(2 * rounds):
            timed("step_s", lambda: training.read(training.step(len(training.losses), batch)))
            if round_ % 2:
                timed("beside_s", lambda: run.save(training, beside=True))
                timed("rest_s", run.wait)
            else:
                timed("at_once_s", lambda: run.save(training))
        size_on_disk = run.checkpoint.stat().st_size
    found: dict[str, Any] = {what: statistics.median(values) for what, values in taken.items()}
    return {"size": name, "bytes": size_on_disk, **found, "every": EVERY}


def text(found: dict[str, Any]) -> str:
    """The figures as a few lines."""
    scale = 3 * 4 * SD21 / found["bytes"]
    share = found["beside_s"] / (EVERY * found["step_s"])
    return (
        f"{found['size']}: {found['bytes'] / 1e6:.0f} MB a checkpoint, {found['step_s']:.2f} s a "
        f"step; at once {found['at_once_s']:.2f} s, beside the training {found['beside_s']:.2f} s "
        f"and {found['rest_s']:.2f} s in a thread; every {EVERY} steps {share:.2%} of the time\n"
        f"SD 2.1 from these rates: {3 * 4 * SD21 / 1e9:.1f} GB, at once "
        f"{scale * found['at_once_s']:.0f} s, beside {scale * found['beside_s']:.1f} s"
    )
