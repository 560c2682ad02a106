"""`python benchmarks/asked_again.py`: SD 2.1 at full size, what a finished stage leaves and costs.

Random weights, stock loader, the nodes of stages 1 and 2 with one step each (stage 3 with AdamW
takes 19 GB). After each stage: what the process holds, and how long the node takes when the same is
queued again, with the loaded MODEL and with one loaded anew.

Stage 3 is not trained here: a result of its size is kept in a run folder and read from it, as a
MODEL in fp16 and one in fp32 have it (`--result` measures that alone).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import ctypes
import json
import shutil
import time
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import safetensors
import torch

from ..attndb.artifacts.tensor_file import FILE_PRECISIONS
from ..attndb.artifacts.weight_delta import WeightDelta
from ..attndb.training.run import Run
from ..attndb.training.step_loss import StepLoss
from ..attndb.training.training import StageResult
from ..devkit.checkpoints import CACHE, make_checkpoint
from ..devkit.host_path import host_on_path
from ..devkit.in_process import Graph, host_folders
from .markdown import markdown
from .recipe import NODES, photo_dataset, write_photos

RESOLUTION = 64
UNET = "model.diffusion_model."


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="asked_again.py", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--kind", choices=["sd21", "sd21_whole"], default="sd21_whole")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--result", action="store_true", help="only what stage 3 leaves")
    options = parser.parse_args(arguments)
    host_on_path()
    path, rows = make_checkpoint(options.kind), []
    with TemporaryDirectory() as folder, torch.inference_mode():
        if not options.result:
            rows = measured(path, Path(folder))
            sys.stdout.write(text(rows) + "\n\n")
        results = [kept_result(path, name, Path(folder) / name) for name in ("fp16", "fp32")]
    sys.stdout.write(result_text(results) + "\n")
    if options.json:
        found = {"stages": rows, "results": results}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def resident_mb() -> float:
    """What the process holds in main memory, after the C library gave back what is free."""
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss / 2**20


def measured(path: Path, work: Path) -> list[dict[str, Any]]:
    """A row per stage: MB above those before the first, seconds of the wall."""
    import nodes as stock

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


def kept_result(path: Path, precision: str, folder: Path) -> dict[str, Any]:
    """A change of every weight of a checkpoint's U-Net as a finished run: seconds to keep it, to
    answer from it in the process that kept it, and in one that must check every byte first."""
    with safetensors.safe_open(str(path), "pt") as handle:
        names = [name for name in handle.keys() if name.startswith(UNET)]
        shapes = {name.removeprefix(UNET): handle.get_slice(name).get_shape() for name in names}
    dtype = FILE_PRECISIONS[precision]
    changes = {name: torch.full(shape, 1e-4, dtype=dtype) for name, shape in shapes.items()}
    delta: dict[str, WeightDelta] = dict(changes)
    result = StageResult(
        {"clip_l": torch.ones(1, 8)},
        delta,
        (StepLoss(0, {"denoising": 0.5, "attention_map": 0.25}),),
    )
    run = Run(folder / "kept", {"of": precision})
    with run:
        kept_s = seconds(lambda: run.finish(result))
    size = sum(change.numel() for change in changes.values())
    again_s = seconds(run.finished)
    shutil.copytree(run.folder, folder / "copied")  # another file: it was never checked
    anew_s = seconds(Run(folder / "copied", run.request).finished)
    shutil.rmtree(folder)
    row = {"precision": precision, "weights": size, "kept_s": kept_s}
    return {**row, "again_s": again_s, "anew_s": anew_s}


def seconds(job: Callable[[], object]) -> float:
    """Of the wall."""
    start = time.monotonic()
    job()
    return round(time.monotonic() - start, 2)


def text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ("stage", "held after it", "one step", "queued again", "with a MODEL loaded anew")
    cells = [
        [
            *(str(row["stage"]), f"{row['held_mb']} MB", f"{row['first_s']:.1f} s"),
            *(f"{row['again_s']:.2f} s", f"{row['loaded_anew_s']:.1f} s"),
        ]
        for row in rows
    ]
    return markdown([head, *cells])


def result_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of `kept_result` as Markdown."""
    head = ("a result of stage 3", "kept", "queued again", "in a process that never saw it")
    cells = [
        [
            f"{row['weights'] / 1e6:.0f} M in {row['precision']}",
            *(f"{row[name]:.1f} s" for name in ("kept_s", "again_s", "anew_s")),
        ]
        for row in rows
    ]
    return markdown([head, *cells])
