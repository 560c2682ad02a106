"""`python dev.py evaluate-micro [--json FILE]`: does attndb-micro draw what a prompt says?

Held-out prompts name style, pattern, colour, category and place of scenes from a stream that no
training has seen; the host's sampler draws them with guidance; judges trained on the world alone
say what they see.
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
import os
import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..devkit.pack import host_on_path
from ..micro import weight_files as weights
from ..micro.judges import ATTRIBUTES, Judges, held_out_accuracy, load_judges
from ..micro.sampling import GUIDANCE, SAMPLER, STEPS, sample
from ..micro.scenes import PROMPTS, make_scenes
from ..micro.world import Scene, full_caption

log = logging.getLogger(__name__)

TARGETS = {"category": 0.90, "colour": 0.90, "pattern": 0.80, "place": 0.95, "style": 0.95}


def agreement(judges: Judges, pictures: Tensor, scenes: list[Scene]) -> dict[str, float]:
    """Share of pictures (N, 64, 64, 3) uint8 in which each judge sees what the prompt said."""
    right = dict.fromkeys(TARGETS, 0)
    for start in range(0, len(scenes), 250):
        seen = judges.predict(pictures[start : start + 250])
        for name in right:
            right[name] += sum(
                guess == getattr(scene, name)
                for guess, scene in zip(seen[name], scenes[start : start + 250], strict=True)
            )
    return {name: count / len(scenes) for name, count in right.items()}


def table(scores: dict[str, float], judges: dict[str, float]) -> str:
    """The figures as Markdown, as in the model card."""
    lines = [
        "| attribute | follows the prompt | target | judge on real scenes |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} ({len(ATTRIBUTES[name])}) | {scores[name]:.1%} | {target:.0%} "
        f"| {judges[name]:.1%} |"
        for name, target in TARGETS.items()
    ]
    return "\n".join(lines)


def contact_sheet(pictures: Tensor, columns: int, scale: int = 2) -> Image.Image:
    """Pictures (N, 64, 64, 3) uint8 row by row, enlarged without smoothing."""
    rows = len(pictures) // columns
    grid = pictures[: rows * columns].numpy().reshape(rows, columns, *pictures.shape[1:])
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in grid])
    image = Image.fromarray(sheet)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="evaluate-micro", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sheet", type=Path, help="write a picture of the first 100 samples")
    options = parser.parse_args(arguments)
    host_on_path(cpu=not torch.cuda.is_available())
    from ..nodes.host.model.micro import load_micro

    start = time.monotonic()
    model, clip, vae = load_micro()
    judges = load_judges()
    accuracies = held_out_accuracy(judges, seed=options.seed)
    scenes = make_scenes(options.seed, PROMPTS, options.prompts)
    prompts = [full_caption(scene) for scene in scenes]
    pictures = sample(
        model,
        clip,
        vae,
        prompts,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
    )
    scores = agreement(judges, pictures, scenes)
    sys.stdout.write(table(scores, accuracies) + "\n")
    log.info(
        "%d prompts, %s, %d steps, CFG %g, seed %d: %.0f s",
        options.prompts,
        SAMPLER,
        options.steps,
        options.guidance,
        options.seed,
        time.monotonic() - start,
    )
    if options.sheet:
        contact_sheet(pictures[:100], 20).save(options.sheet)
    if options.json:
        record = {
            **scores,
            "prompts": options.prompts,
            "seed": options.seed,
            "judges": accuracies,
            "sampler": SAMPLER,
            "steps": options.steps,
            "guidance": options.guidance,
            "weights": weights.card_hashes()[weights.MODEL],
        }
        part = options.json.with_suffix(options.json.suffix + ".part")
        part.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(part, options.json)
    return 0
