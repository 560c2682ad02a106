"""`python demo/third_stage.py`: what bf16, low_memory and a LoRA in stage 3 cost in quality.

On the embedded model the same stages 1 and 2 go before each; the subject is then drawn in new
scenes with the same noise: a table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import time

import torch

from ..attndb.config.presets import micro_lora
from ..attndb.config.stage import StageConfig
from ..devkit.host_path import host_on_path
from ..devkit.in_process import host_folders
from ..micro.concepts import CONCEPTS
from .category import Measured

HEAD = "| stage 3 | identity | place / style obeyed | steps | CPU time |\n|---|---|---|---|---|\n"


def ways(third: StageConfig, share: float) -> dict[str, StageConfig]:
    """Stage 3 by its name in the table: `third` in other precisions, and as preset micro-lora."""
    lora = micro_lora()[2]
    return {
        "fp32": third.with_(precision="fp32"),
        "bf16": third.with_(precision="bf16"),
        "low_memory": third.with_(precision="bf16", low_memory=True),
        f"LoRA {lora.lora_rank}, fp32": lora.with_(
            precision="fp32", seed=third.seed, steps=round(lora.steps * share)
        ),
    }


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="third_stage.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("--concept", choices=sorted(CONCEPTS), default="hatted-robot")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of preset micro")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=6, help="pictures of each scene")
    options = parser.parse_args(arguments)
    host_on_path(cpu=not torch.cuda.is_available())
    with TemporaryDirectory() as folder, torch.inference_mode():  # no run of before answers
        host_folders(Path(folder))
        measured = Measured(options.concept, options.share, options.seed)
        second, third = measured.stages[1:]
        begun = measured.stage(second, measured.dataset, measured.begun)
        sys.stdout.write(HEAD)
        for name, config in {"none": None, **ways(third, options.share)}.items():
            concept, start = begun, time.process_time()
            if config is not None:
                concept = measured.stage(config, measured.dataset, begun)
            seconds, steps = time.process_time() - start, config.steps if config else 0
            identity, place, style = measured.subject(concept, options.each)
            values = (name, f"{identity:.3f}", f"{place:.0%} / {style:.0%}", str(steps))
            sys.stdout.write(f"| {' | '.join(values)} | {seconds:.0f} s |\n")
            sys.stdout.flush()
    return 0
