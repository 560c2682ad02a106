"""The training set on disk: scenes rendered to uint8 once, outside git, and their attributes."""

import logging
import os
from pathlib import Path

import numpy as np

from .world import SIZE, Scene, random_scene, render

log = logging.getLogger(__name__)

# Streams of scenes that never overlap: (stream, index) seeds the generator of one scene.
TRAIN, JUDGE_TRAIN, JUDGE_TEST, PROMPTS, CLIP_TRAIN = range(5)


def scene_rng(seed: int, stream: int, index: int) -> np.random.Generator:
    """The generator of scene `index` of `stream`; independent of every other scene."""
    return np.random.default_rng((seed, stream, index))


def make_scenes(seed: int, stream: int, count: int) -> list[Scene]:
    return [random_scene(scene_rng(seed, stream, i)) for i in range(count)]


def rendered(folder: Path, seed: int, stream: int, count: int) -> tuple[np.ndarray, list[Scene]]:
    """Pictures (count, 64, 64, 3) uint8, memory-mapped, and their scenes; rendered when missing.

    About 4 ms a scene on one core.
    """
    path = folder / f"scenes-{seed}-{stream}-{count}.npy"
    scenes = make_scenes(seed, stream, count)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        log.info("rendering %d scenes to %s", count, path)
        part = path.with_suffix(".part.npy")
        shape = (count, SIZE, SIZE, 3)
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        for i, scene in enumerate(scenes):
            out[i] = render(scene)[0]
        out.flush()
        del out
        os.replace(part, path)
    return np.load(path, mmap_mode="r"), scenes
