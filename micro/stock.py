"""Rendered scenes on disk, outside git: pictures once, scenes from their seeds."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..attndb.artifacts.tensor_file import write_whole
from .world import SIZE, Scene, Words, random_identity, random_scene, render

log = logging.getLogger(__name__)

# Streams of scenes that never overlap: (stream, index) seeds the generator of one scene.
TRAIN, CODER, CODER_TEST, JUDGE_TRAIN, JUDGE_TEST, PROMPTS, CLIP_TRAIN = range(7)


def scene_rng(seed: int, stream: int, index: int) -> np.random.Generator:
    """The generator of scene `index` of `stream`; independent of every other scene."""
    return np.random.default_rng((seed, stream, index))


def base_scene(rng: np.random.Generator, index: int) -> Scene:
    return random_scene(rng)


def coder_scene(rng: np.random.Generator, index: int) -> Scene:
    """For the autoencoder: three of four subjects are random identities, anywhere, any size."""
    if index % 4 == 0:
        return random_scene(rng)
    return random_scene(
        rng,
        look=random_identity(rng),
        words=Words(),
        x=float(rng.uniform(44, 84)),
        half=float(rng.uniform(28, 40)),
    )


def make_scenes(
    seed: int, stream: int, count: int, make: Callable[..., Scene] = base_scene
) -> list[Scene]:
    """The first `count` scenes of a stream."""
    return [make(scene_rng(seed, stream, i), i) for i in range(count)]


def rendered(
    folder: Path, seed: int, stream: int, count: int, make: Callable[..., Scene] = base_scene
) -> tuple[NDArray[np.uint8], list[Scene]]:
    """Pictures (count, SIZE, SIZE, 3), memory-mapped, and scenes; rendered when missing.

    About 10 ms a scene on one core. A stopped rendering starts again.
    """
    path = folder / f"scenes-{seed}-{stream}-{count}.npy"
    scenes = make_scenes(seed, stream, count, make)
    render_to(path, scenes)
    return np.load(path, mmap_mode="r"), scenes


def render_to(path: Path, scenes: list[Scene]) -> None:
    """Pictures (N, SIZE, SIZE, 3) of scenes as a .npy file; nothing is done if it is there."""
    if path.exists():
        return
    log.info("rendering %d scenes to %s", len(scenes), path)
    shape = (len(scenes), SIZE, SIZE, 3)

    def write(file: IO[bytes]) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for scene in scenes:
            file.write(np.ascontiguousarray(render(scene).picture).tobytes())

    write_whole({path: write})


def to_model_range(pictures: NDArray[np.uint8] | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in -1..1."""
    x = pictures if isinstance(pictures, Tensor) else torch.from_numpy(np.array(pictures))
    return x.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def to_pictures(x: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) in about -1..1 -> (B, H, W, 3) uint8."""
    pixels = (x.float().clamp(-1, 1) + 1) * 127.5
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
