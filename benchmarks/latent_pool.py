"""`python benchmarks/latent_pool.py`: from which size on a pool of encoded crops teaches as well as
a new crop for every sample. The embedded model, preset micro with the published augmentation.

Stages 1 and 2 are trained without a pool, once per seed, stage 3 with every pool. Of each result:
the loss on crops that no training drew, with the same crops, noise and timesteps for all, and the
scores of its pictures (`dev.py evaluate`'s prompts, one noise for all).
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
import logging
import statistics
import tempfile
from dataclasses import replace

import torch

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.config.presets import micro
from ..attndb.config.stage import StageConfig
from ..attndb.data.dataset import ConceptDataset
from ..attndb.data.photo_batches import PhotoBatches
from ..attndb.methods.denoising import Denoising
from ..devkit.host_path import host_on_path
from ..micro.concepts import CONCEPTS, Concept
from .contest.contestant import Contestant
from .contest.studio import Studio
from .markdown import markdown

log = logging.getLogger(__name__)

HELD_OUT = 7919
"""Seed of the crops that are judged with: no training has it."""
SHOWN = ("loss", "truth", "clip_i", "text")
"""Columns; clip_i is the likeness to the photos by the micro CLIP."""


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="latent_pool.py", description=__doc__)
    both = ["hatted-robot", "checked-house"]
    parser.add_argument("--concepts", choices=sorted(CONCEPTS), nargs="+", default=both)
    parser.add_argument("--pools", type=int, nargs="+", default=[8, 32, 128, 256, 0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=512, help="held-out crops")
    parser.add_argument("--images", type=int, default=2, help="pictures of each prompt")
    options = parser.parse_args(arguments)
    host_on_path()
    output = Path(tempfile.mkdtemp(prefix="latent_pool-"))
    studio = Studio(output, images=options.images, precision="fp32")
    for name in options.concepts:
        lines = [["crops per photo", *SHOWN]]
        for pool in options.pools:
            found = [
                measured(studio, CONCEPTS[name], pool, seed, options.samples)
                for seed in options.seeds
            ]
            told = [_told([one[title] for one in found]) for title in SHOWN]
            lines.append([str(pool) if pool else "no pool", *told])
            log.info("%s: %s", name, lines[-1])
        sys.stdout.write(f"{name}, by seed, and the mean:\n{markdown(lines)}\n")
        sys.stdout.flush()
    return 0


def measured(
    studio: Studio, concept: Concept, pool: int, seed: int, samples: int
) -> dict[str, float]:
    """The loss and scores after a training whose stage 3 draws from `pool` crops a photo."""
    contestant = Contestant(
        name=f"pool {pool}",
        stages=tuple(_stage(c, pool if c.stage == 3 else 0) for c in micro()),
    )
    learned, _ = studio.train(contestant, concept, "many", seed)
    loss = held_out_loss(studio, studio.dataset(concept, "many"), learned, samples)
    pictures = studio.draw(concept, learned, 0.0, seed)
    return {"loss": loss, **studio.score(pictures, concept, "many").values}


def _stage(config: StageConfig, pool: int) -> StageConfig:
    return config.with_(data=replace(config.data, augmentation="reference", latent_pool=pool))


def held_out_loss(
    studio: Studio, dataset: ConceptDataset, concept: TrainedConcept, samples: int
) -> float:
    """Mean denoising loss where the photo is, over crops of the seed HELD_OUT."""
    from ..nodes.host.ui.plan import plan_of
    from ..nodes.host.workbench import HostWorkbench

    config = _stage(micro()[2], 0).with_(seed=HELD_OUT, batch_size=16, precision="fp32")
    plan = plan_of(["held-out crops"], [config])
    bench = HostWorkbench(studio.model, studio.clip, studio.vae, plan)
    prompts, _ = bench.tokenize(dataset, 1, "last word")
    with bench.private_model(dataset, concept) as model, torch.no_grad():
        states = model.encode_text(prompts[0], {concept.text_key: concept.vectors})
        batches = PhotoBatches(
            dataset, prompts, config, model.diffusion.timesteps, model.encode_image
        )
        denoising = Denoising(model, config)
        losses = []
        for step in range(samples // config.batch_size):
            batch = batches[step].to(model.device)
            losses.append(float(denoising.loss(batch, states.joined([states] * len(batch)))))
    return statistics.mean(losses)


def _told(values: Sequence[float]) -> str:
    each = " / ".join(f"{value:.3f}" for value in values)
    return f"{each}, **{statistics.mean(values):.3f}**"
