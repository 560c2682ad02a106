"""A step of ComfyUI's own Train LoRA next to ours: seconds, on the same weights, batch and rank.

    python benchmarks/stock_lora.py [--rank 8] [--rounds 3] [--json FILE]

Its node is called as the host calls it, in this process, and else with its defaults; a step is the
difference of two trainings of different length, so that what happens once is in neither. Ours is
stage 3 with a LoRA, regulariser included. Both on the CPU, in fp32, in turn.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import inspect
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..devkit.host_path import host_on_path
from ..devkit.pack import ROOT

log = logging.getLogger(__name__)

SHORT, LONG = 1, 4
"""Steps of the two trainings."""


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="stock_lora.py", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "recipe")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the row here")
    options = parser.parse_args(arguments)
    host_on_path()
    found = measured(options.work, options.rank, options.rounds)
    log.info("%s", text(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(work: Path, rank: int, rounds: int) -> dict[str, Any]:
    """Medians of sd15-small, 256 px, batch 2: seconds of CPU time a step."""
    from .lora import training_with
    from .measure import describe
    from .ours import our_batch
    from .recipe import CHECKPOINT, write_checkpoint
    from .sizes import inputs_of, sd15_small

    size, file = sd15_small(), work / CHECKPOINT
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        write_checkpoint(file)
    wires, batch = loaded(file), our_batch(inputs_of(size, 0))
    taken: dict[str, list[float]] = {}
    with training_with(size, 3, "fp32", "lora", rank) as training:
        training.step(0, batch).read()
        for _ in range(rounds):
            for name, checkpointing in (("stock", True), ("stock_kept", False)):
                train = stock_training(*wires, size.resolution, size.batch, rank, checkpointing)
                taken.setdefault(name, []).append(seconds_a_step(train))
            took = seconds(lambda: training.step(1, batch).read())
            taken.setdefault("ours", []).append(took)
    found = {f"processor_{name}_s": statistics.median(all_) for name, all_ in taken.items()}
    ratio = found["processor_stock_s"] / found["processor_ours_s"]
    about = {"size": size.name, "resolution": size.resolution, "batch": size.batch, "rank": rank}
    return {**about, **found, "ratio": ratio, "device": describe(torch.device("cpu"))}


def loaded(file: Path) -> tuple[Any, Any]:
    """MODEL and CLIP of a checkpoint, as the stock loader gives them."""
    import folder_paths
    import nodes as stock

    folder_paths.add_model_folder_path("checkpoints", str(file.parent))
    with torch.inference_mode():
        return stock.CheckpointLoaderSimple().load_checkpoint(file.name)[:2]


def stock_training(
    model: Any, clip: Any, resolution: int, batch: int, rank: int, checkpointing: bool
) -> Callable[[int], object]:
    """A function of steps that trains so many by the host's own node."""
    import nodes as stock
    from comfy_extras.nodes_train import TrainLoraNode

    side = resolution // 8
    channels = model.model.latent_format.latent_channels
    latents = torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0))
    chosen = {"training_dtype": "fp32", "lora_dtype": "fp32", "batch_size": batch, "rank": rank}
    inputs = TrainLoraNode.define_schema().inputs
    defaults = {i.id: value for i in inputs if (value := getattr(i, "default", None)) is not None}
    known = inspect.signature(TrainLoraNode.execute).parameters

    def train(steps: int) -> object:
        with torch.inference_mode():
            [positive] = stock.CLIPTextEncode().encode(clip, "a photo of a sks doll")
            values = {**defaults, **chosen, "model": model, "latents": {"samples": latents}}
            values |= {"steps": steps, "gradient_checkpointing": checkpointing}
            listed = {name: [value] for name, value in values.items() if name in known}
            return TrainLoraNode.execute(**listed, positive=[positive])

    return train


def seconds_a_step(train: Callable[[int], object]) -> float:
    """Seconds of CPU time of a step more."""
    short, long = (seconds(lambda steps=steps: train(steps)) for steps in (SHORT, LONG))
    return (long - short) / (LONG - SHORT)


def seconds(work: Callable[[], object]) -> float:
    """CPU time, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def text(found: dict[str, Any]) -> str:
    """The row for the screen."""
    return (
        f"{found['size']}, {found['resolution']} px, batch {found['batch']}, rank {found['rank']}, "
        f"fp32: Train LoRA {found['processor_stock_s']:.2f} s a step "
        f"({found['processor_stock_kept_s']:.2f} s without its checkpointing), ours "
        f"{found['processor_ours_s']:.2f} s (CPU time): {found['ratio']:.2f} times as fast"
    )
