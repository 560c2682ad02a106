"""The training set on disk: scenes rendered to uint8 once, outside git, and their attributes."""

import json
import logging
import os
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from .world import SIZE, Scene, random_scene, render

log = logging.getLogger(__name__)

# Streams of scenes that never overlap: (stream, index) seeds the generator of one scene.
TRAIN, JUDGE_TRAIN, JUDGE_TEST, PROMPTS = range(4)


def scene_rng(seed: int, stream: int, index: int) -> np.random.Generator:
    """The generator of scene `index` of `stream`; independent of every other scene."""
    return np.random.default_rng((seed, stream, index))


def make_scenes(seed: int, stream: int, count: int) -> list[Scene]:
    return [random_scene(scene_rng(seed, stream, i)) for i in range(count)]


def _render_range(job: tuple[int, int, int, int]) -> np.ndarray:
    seed, stream, start, stop = job
    pictures = np.empty((stop - start, SIZE, SIZE, 3), dtype=np.uint8)
    for i in range(start, stop):
        pictures[i - start] = render(random_scene(scene_rng(seed, stream, i)))[0]
    return pictures


def rendered(
    folder: Path, seed: int, stream: int, count: int, processes: int = 2
) -> tuple[np.ndarray, list[Scene]]:
    """Pictures (count, 64, 64, 3) uint8, memory-mapped, and their scenes; rendered when missing."""
    path = folder / f"scenes-{seed}-{stream}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        log.info("rendering %d scenes to %s", count, path)
        part = path.with_suffix(".part.npy")
        shape = (count, SIZE, SIZE, 3)
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        step = 500
        jobs = [(seed, stream, i, min(count, i + step)) for i in range(0, count, step)]
        with get_context("spawn").Pool(processes) as pool:
            for job, pictures in zip(jobs, pool.imap(_render_range, jobs), strict=True):
                out[job[2] : job[3]] = pictures
        out.flush()
        del out
        os.replace(part, path)
        (folder / "world.json").write_text(json.dumps({"seed": seed, "size": SIZE}))
    return np.load(path, mmap_mode="r"), make_scenes(seed, stream, count)
