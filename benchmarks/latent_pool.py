"""`python benchmarks/latent_pool.py`: from which size on a pool of encoded crops teaches as well as
a new crop for every sample. The embedded model, preset micro with the published augmentation.

Stages 1 and 2 are trained without a pool, once per seed, stage 3 with every pool; then the loss of
the result on crops that no training drew, the same crops, noise and timesteps for all.
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
from typing import Any

import numpy as np
import torch

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.config.presets import micro
from ..attndb.config.stage import StageConfig
from ..attndb.data.dataset import ConceptDataset
from ..attndb.data.photo_batches import PhotoBatches
from ..attndb.data.photo_file import photos_from_arrays
from ..attndb.methods.denoising import Denoising
from ..attndb.training.session import train_stage
from ..attndb.training.stage_request import StageRequest
from ..devkit.pack import host_on_path
from ..micro.concepts import CONCEPTS

log = logging.getLogger(__name__)

HELD_OUT = 7919
"""Seed of the crops that are judged with: no training has it."""


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="latent_pool.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("--concept", choices=sorted(CONCEPTS), default="hatted-robot")
    parser.add_argument("--pools", type=int, nargs="+", default=[0, 8, 32, 128])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=512, help="held-out crops")
    options = parser.parse_args(arguments)
    host_on_path()
    concept = CONCEPTS[options.concept]
    pictures = [drawn.picture.astype(np.float32) / 255.0 for drawn, _ in concept.photos()]
    dataset = ConceptDataset(photos_from_arrays(pictures), concept.category, "<my-subject>")
    losses: dict[int, list[float]] = {pool: [] for pool in options.pools}
    for seed in options.seeds:
        bench = _bench()
        before: TrainedConcept | None = None
        for config in micro()[:2]:
            before = _stage(bench, dataset, config, 0, seed, before)
        loss = _held_out_loss(bench, dataset, before, options.samples)
        log.info("seed %d, before stage 3: %.5f", seed, loss)
        for pool, found in losses.items():
            trained = _stage(bench, dataset, micro()[2], pool, seed, before)
            found.append(_held_out_loss(bench, dataset, trained, options.samples))
            log.info("seed %d, pool %d: %.5f", seed, pool, found[-1])
    log.info("| crops per photo | loss on held-out crops, by seed | mean |")
    for pool, found in losses.items():
        each = " / ".join(f"{loss:.5f}" for loss in found)
        log.info("| %d | %s | %.5f |", pool, each, statistics.mean(found))
    return 0


def _bench() -> Any:
    """The embedded model on a workbench whose folders are new."""
    import folder_paths

    from ..nodes.host.model.micro import load_micro
    from ..nodes.host.ui.plan import NodePlan, StagePlan
    from ..nodes.host.workbench import HostWorkbench

    folder_paths.set_output_directory(tempfile.mkdtemp(prefix="latent_pool-"))
    return HostWorkbench(*load_micro([]), NodePlan([StagePlan("pool", 1)]))


def _stage(
    bench: Any,
    dataset: ConceptDataset,
    config: StageConfig,
    pool: int,
    seed: int,
    concept: TrainedConcept | None,
) -> TrainedConcept:
    data = replace(config.data, augmentation="reference", latent_pool=pool)
    config = config.with_(data=data, seed=seed, precision="fp32")
    title = f"pool {pool}, seed {seed}, stage {config.stage}"
    request = StageRequest(
        dataset=dataset, config=config, concept=concept, title=title, checkpoint_every=0
    )
    return train_stage(bench, request)[0]


def _held_out_loss(
    bench: Any, dataset: ConceptDataset, concept: TrainedConcept | None, samples: int
) -> float:
    """Mean denoising loss where the photo is, over crops of the seed HELD_OUT."""
    config = micro()[2]
    data = replace(config.data, augmentation="reference", latent_pool=0)
    config = config.with_(data=data, seed=HELD_OUT, batch_size=16, precision="fp32")
    prompts, category = bench.tokenize(dataset, 1, "last word")
    with bench.private_model(dataset, concept) as model, torch.no_grad():
        vectors = model.initial_embeddings(category.initial_ids, 1)
        if concept is not None:
            vectors = {concept.text_key: concept.vectors}
        states = model.encode_text(prompts[0], vectors)
        batches = PhotoBatches(
            dataset, prompts, config, model.diffusion.timesteps, model.encode_image
        )
        denoising = Denoising(model, config)
        losses = []
        for step in range(samples // config.batch_size):
            batch = batches[step].to(model.device)
            losses.append(float(denoising.loss(batch, states.joined([states] * len(batch)))))
    return statistics.mean(losses)
