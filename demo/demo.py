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
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..attndb.artifacts.tensor_file import png_writer, write_whole
from ..attndb.config.presets import PRESETS
from ..attndb.config.stage import StageConfig
from ..attndb.viz.grid import table
from ..attndb.viz.heatmaps import Cell, HeatmapStyle
from ..attndb.viz.loss_curve import loss_curve
from ..devkit.in_process import Graph, host_folders, trained_stage
from ..devkit.pack import host_on_path
from ..micro.concepts import CONCEPTS
from ..micro.sampling import GUIDANCE, SAMPLER, SCHEDULER, STEPS
from ..micro.world import SIZE
from .album import write_concept

log = logging.getLogger(__name__)

OUTPUT = Path(__file__).resolve().parent / "output"
SCENES = {
    "a photo of a {} in a forest": "forest",
    "a photo of a {} next to a white house in the desert at sunset": "beside a house",
    "a photo of a {} holding a yellow balloon in space": "balloon, space",
    "a sketch of a {} on the beach": "sketch, beach",
    "pixel art of a {} on a stage": "pixel art, stage",
    "a watercolour of a {} in the snow at night": "watercolour, snow",
}
"""Prompts that no photo shows, and their short names."""
MAPPED = (0, 1)
"""Scenes whose attention maps are shown."""


def draw(
    wires: tuple[Any, Any], positive: Any, negative: Any, seed: int, steps: int
) -> tuple[Any, torch.Tensor]:
    """Latent and picture (1, Y, X, 3) by the stock KSampler and VAEDecode."""
    import nodes

    model, vae = wires
    empty = nodes.EmptyLatentImage().generate(SIZE, SIZE, 1)[0]
    latent = nodes.KSampler().sample(
        *(model, seed, steps, GUIDANCE, SAMPLER, SCHEDULER), positive, negative, empty, 1.0
    )[0]
    return latent, nodes.VAEDecode().decode(vae, latent)[0]


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="dev.py demo", description=__doc__.split("\n")[0])
    parser.add_argument("--concept", choices=list(CONCEPTS), default="hatted-robot")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="micro")
    parser.add_argument(
        "--steps", type=int, default=0, help="of a stage and of a sampler, at most: does it run"
    )
    parser.add_argument("--seed", type=int, default=0, help="of training and pictures")
    options = parser.parse_args(arguments)
    recipe = tuple(
        config.with_(data=replace(config.data, resolution=SIZE))
        for config in PRESETS[options.preset]()
    )
    if options.steps:
        recipe = tuple(config.with_(steps=min(config.steps, options.steps)) for config in recipe)
    drawn = min(STEPS, options.steps or STEPS)
    host_on_path(cpu=not torch.cuda.is_available())
    with torch.inference_mode():
        personalise(options.concept, options.output.resolve(), recipe, options.seed, drawn)
    return 0


def personalise(
    name: str, output: Path, recipe: Sequence[StageConfig], seed: int, steps: int
) -> None:
    """Trains the three stages on a concept and writes everything below `output`; `steps`: of the
    sampler."""
    start = time.monotonic()
    host_folders(output)
    from ..nodes.host.model.micro import load_micro

    graph = Graph()
    photos = output / "photos" / name
    write_concept(name, photos)
    (photos / "truth").rename(_fresh(output / "truth" / name))
    category = CONCEPTS[name].category
    words = (f"<my-{category}>", category)
    dataset, _ = graph(
        "AttnDBLoadConceptDataset",
        folder="(typed path)",
        path=str(photos),
        category=words[1],
        placeholder=words[0],
    )
    model, clip, vae = load_micro([str(output / "models" / "embeddings")])
    rows = [_photo_row(dataset.photos)]
    drawn = [f"{words[0]} {words[1]}", words[1]]
    rows.append(_scene_row("before", (model, clip, vae), drawn[1], seed, steps, output))
    losses, concept = [], None
    maps: list[list[Cell]] = []
    for config in recipe:
        title, config = f"stage {config.stage}", config.with_(seed=seed)
        concept, own = trained_stage((model, clip, vae), dataset, config, concept)
        losses.extend(own)
        applied = graph("AttnDBApplyConcept", model=model, clip=clip, concept=concept)
        trained = (applied[0], applied[1], vae)
        rows.append(_scene_row(title, trained, drawn[0], seed, steps, output))
        maps.append(_map_row(title, graph, trained, words, seed, steps))
    saved, _ = graph("AttnDBSaveConcept", concept=concept, name=f"my-{words[1]}")
    _save(
        loss_curve(
            [loss.denoising for loss in losses],
            [loss.regularization for loss in losses],
            f"AttnDreamBooth, {sum(config.steps for config in recipe)} steps: {words[0]}",
        ),
        output / "losses.png",
    )
    style = HeatmapStyle(cell=160, normalization="per word")
    sheets = [
        table(
            rows,
            style,
            title=f"{words[0]} {words[1]}, drawn by attndb-micro ({SIZE} x {SIZE} px)",
        ),
        table(maps, style, title=f"where {words[0]} and {words[1]} look"),
    ]
    sheet = _stack([_picture(s) for s in sheets])
    _save(sheet, output / "contact_sheet.png")
    log.info("concept saved as %s in %s", saved, output / "models")
    log.info("contact sheet: %s", output / "contact_sheet.png")
    log.info("done in %.0f s", time.monotonic() - start)


def _photo_row(photos: Sequence[Any]) -> list[Cell]:
    cells = [Cell("the photos", _tensor(photo.image)) for photo in photos]
    return cells[: len(SCENES)]


def _scene_row(
    title: str,
    wires: tuple[Any, Any, Any],
    subject: str,
    seed: int,
    steps: int,
    output: Path,
) -> list[Cell]:
    import nodes

    model, clip, vae = wires
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    cells = []
    for number, (scene, short) in enumerate(SCENES.items()):
        positive = nodes.CLIPTextEncode().encode(clip, scene.format(subject))[0]
        _, picture = draw((model, vae), positive, negative, seed + number, steps)
        cells.append(Cell(f"{title}: {short}", picture[0]))
        _save(
            _picture(picture[0]),
            output / "pictures" / f"{title} {number + 1}.png".replace(" ", "-"),
        )
    return cells


def _map_row(
    title: str,
    graph: Graph,
    wires: tuple[Any, Any, Any],
    words: tuple[str, str],
    seed: int,
    steps: int,
) -> list[Cell]:
    import nodes

    model, clip, vae = wires
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    cells: list[Cell] = []
    for number in MAPPED:
        text = list(SCENES)[number].format(" ".join(words))
        captured, capture, positive = graph(
            "AttnDBCaptureAttention", model=model, clip=clip, text=text, words=", ".join(words)
        )
        latent, picture = draw((captured, vae), positive, negative, seed + number, steps)
        cells.append(Cell(f"after {title}", picture[0]))
        for word in words:
            mask = graph(
                "AttnDBAttentionMaps",
                capture=capture,
                samples=latent,
                image=picture,
                words=word,
                word=word,
                mask_output="soft",
            )[1]
            cells.append(Cell(f"{word}", picture[0], mask[0]))
    return cells


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0)


def _picture(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def _stack(pictures: Sequence[Image.Image]) -> Image.Image:
    width = max(picture.width for picture in pictures)
    stacked = Image.new("RGB", (width, sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        stacked.paste(picture, (0, top))
        top += picture.height
    return stacked


def _save(image: Image.Image, path: Path) -> None:
    write_whole({path: png_writer(image)})


def _fresh(folder: Path) -> Path:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder
