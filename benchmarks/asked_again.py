"""`python benchmarks/asked_again.py`: SD 2.1 at full size, what a finished stage leaves and costs.

Random weights, stock loader, the nodes of stages 1 and 2 with one step each (stage 3 with AdamW
takes 19 GB). After each stage: what the process holds, and how long the node takes when the same is
queued again, with the loaded MODEL and with one loaded anew.
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
import ctypes
import json
import time
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from ..devkit.checkpoints import CACHE, Kind, make_checkpoint
from ..devkit.in_process import Graph, host_folders
from ..devkit.pack import host_on_path
from .recipe import NODES, photo_dataset, write_photos

RESOLUTION = 64


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="asked_again.py", description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=["sd21", "sd21_whole"], default="sd21_whole")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args(arguments)
    host_on_path()
    with TemporaryDirectory() as folder, torch.inference_mode():
        rows = measured(options.kind, Path(folder))
    sys.stdout.write(text(rows) + "\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def resident_mb() -> float:
    """What the process holds in main memory, after the C library gave back what is free."""
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss / 2**20


def measured(kind: Kind, work: Path) -> list[dict[str, Any]]:
    """A row per stage: MB above those before the first, seconds of the wall."""
    import nodes as stock

    path = make_checkpoint(kind)
    host_folders(work)
    import folder_paths

    folder_paths.add_model_folder_path("checkpoints", str(CACHE))
    (work / "photos").mkdir()
    write_photos(work / "photos", (256, 256))
    graph, rows = Graph(), []

    def load() -> dict[str, Any]:
        model, clip, vae = stock.CheckpointLoaderSimple().load_checkpoint(path.name)
        return {"model": model, "clip": clip, "vae": vae}

    def train(node: str, wires: dict[str, Any], concept: Any) -> tuple[Any, float]:
        start = time.monotonic()
        settings = {"steps": 1, "batch_size": 1, "resolution": RESOLUTION, "latent_pool": 1}
        trained = graph(node, **wires, dataset=dataset, concept=concept, **settings)[0]
        return trained, time.monotonic() - start

    dataset = photo_dataset(graph, work / "photos")
    wires, concept = load(), None
    before = resident_mb()
    for stage, node in enumerate(NODES[:2], 1):
        learned, first_s = train(node, wires, concept)
        held = resident_mb() - before
        _, again_s = train(node, wires, concept)
        wires.clear()  # one MODEL at a time: 4.5 GB
        wires = load()
        _, anew_s = train(node, wires, concept)
        rows.append(
            {
                "stage": stage,
                "held_mb": round(held),
                "first_s": round(first_s, 2),
                "again_s": round(again_s, 3),
                "loaded_anew_s": round(anew_s, 2),
            }
        )
        concept = learned
    return rows


def text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| stage | held after it | one step | queued again | with a MODEL loaded anew |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['stage']} | {row['held_mb']} MB | {row['first_s']:.1f} s "
            f"| {row['again_s']:.2f} s | {row['loaded_anew_s']:.1f} s |"
        )
    return "\n".join(lines)
