"""`python dev.py demo`: three stages on one concept, and what each of them learned, as pictures.

In demo/output/: contact_sheet.png (photos, scenes before and after each stage, attention maps),
losses.png, the pictures one by one, the saved concept in models/, the runs in attndb/.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..attndb.config.presets import PRESETS
from ..attndb.config.stage import StageConfig
from ..attndb.training.loss_table import LossTable
from ..attndb.viz.loss_curve import loss_curve
from ..devkit.host_path import host_on_path
from ..devkit.in_process import Graph, host_folders, trained_stage
from ..micro.concepts import CONCEPTS
from ..micro.sampling import STEPS
from ..micro.world import SIZE
from .album import write_concept
from .contact_sheet import ContactSheet, save_image
from .scenes import Scenes

log = logging.getLogger(__name__)

OUTPUT = Path(__file__).resolve().parent / "output"


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="dev.py demo", description=str(__doc__).split("\n")[0])
    parser.add_argument("--concept", choices=list(CONCEPTS), default="hatted-robot")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="micro")
    parser.add_argument(
        "--steps", type=int, default=0, help="of a stage and of a sampler, at most: does it run"
    )
    parser.add_argument("--seed", type=int, default=0, help="of training and pictures")
    options = parser.parse_args(arguments)
    recipe = [
        config.with_(seed=options.seed, data=replace(config.data, resolution=SIZE))
        for config in PRESETS[options.preset]()
    ]
    if options.steps:
        recipe = [config.with_(steps=min(config.steps, options.steps)) for config in recipe]
    scenes = Scenes(options.seed, min(STEPS, options.steps or STEPS))
    host_on_path(cpu=not torch.cuda.is_available())
    with torch.inference_mode():
        personalise(options.concept, options.output.resolve(), recipe, scenes)
    return 0


def personalise(name: str, output: Path, recipe: Sequence[StageConfig], scenes: Scenes) -> None:
    """Trains the stages on a concept and writes everything below `output`."""
    start = time.monotonic()
    host_folders(output)
    from ..nodes.host.model.micro import load_micro

    graph = Graph()
    dataset = _dataset(graph, name, output)
    model, clip, vae = load_micro([str(output / "models" / "embeddings")])
    placeholder, category = words = dataset.placeholder, dataset.category
    sheet = ContactSheet(output, words, [photo.image for photo in dataset.photos])
    sheet.add("before", scenes.drawn((model, clip, vae), category))

    concept, losses = None, []
    for config in recipe:
        title = f"stage {config.stage}"
        concept, own = trained_stage((model, clip, vae), dataset, config, concept)
        losses += own
        applied = graph("AttnDBApplyConcept", model=model, clip=clip, concept=concept)
        trained = (applied[0], applied[1], vae)
        sheet.add(title, scenes.drawn(trained, f"{placeholder} {category}"))
        sheet.add_maps(title, scenes.mapped(graph, trained, words))

    saved, _ = graph("AttnDBSaveConcept", concept=concept, name=f"my-{category}")
    steps = sum(config.steps for config in recipe)
    title = f"AttnDreamBooth, {steps} steps: {placeholder}"
    curve = loss_curve(LossTable.of(losses).curves, title)
    save_image(curve, output / "losses.png")
    shown = sheet.save()
    log.info("concept saved as %s in %s", saved, output / "models")
    log.info("contact sheet: %s", shown)
    log.info("done in %.0f s", time.monotonic() - start)


def _dataset(graph: Graph, name: str, output: Path) -> Any:
    """The concept's photos, written and loaded again; what is true of them lies elsewhere: it is no
    photo."""
    photos, truth = output / "photos" / name, output / "truth" / name
    write_concept(name, photos)
    shutil.rmtree(truth, ignore_errors=True)
    truth.parent.mkdir(parents=True, exist_ok=True)
    (photos / "truth").rename(truth)
    category = CONCEPTS[name].category
    return graph(
        "AttnDBLoadConceptDataset",
        folder="(typed path)",
        path=str(photos),
        category=category,
        placeholder=f"<my-{category}>",
    )[0]
