"""The training set as the diffusion model sees it: latents of all scenes and the cells of their
named accessories, on disk."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..attndb.artifacts.tensor_file import write_whole
from .autoencoder import DOWNSCALE, Autoencoder
from .stock import TRAIN, rendered, to_model_range
from .world import SIZE, Scene, render
from .world.shapes import HAT, HELD

log = logging.getLogger(__name__)
LEAST = 6  # px of a latent cell that a part must cover to be seen in it


@torch.no_grad()
def encoded(
    folder: Path, model: Autoencoder, seed: int, count: int, digest: str, batch: int = 50
) -> tuple[Tensor, list[Scene]]:
    """Latents (count, C, 16, 16) in fp16 and scenes of the training stream; made when missing.

    `digest` names the autoencoder: latents of another one are not taken for these.
    """
    path = folder / f"latents-{seed}-{TRAIN}-{count}-{digest[:12]}.npy"
    pictures, scenes = rendered(folder, seed, TRAIN, count)

    def latents() -> NDArray[Any]:
        log.info("encoding %d scenes to %s", count, path)
        model.eval()
        parts = [
            model.encode(to_model_range(pictures[start : start + batch])).half().cpu().numpy()
            for start in range(0, count, batch)
        ]
        return np.concatenate(parts)

    return _kept(path, latents), scenes


def _kept(path: Path, make: Callable[[], NDArray[Any]]) -> Tensor:
    """What is in the file; made when missing."""
    if not path.exists():
        made = make()
        write_whole({path: lambda file: np.save(file, made)})
    return torch.from_numpy(np.load(path))


def accessories_in(scene: Scene) -> NDArray[np.bool_]:
    """(16, 16) the latent cells that show a hat or held thing which the scene's words name."""
    side = SIZE // DOWNSCALE
    named = [role for role, word in ((HAT, scene.words.hat), (HELD, scene.words.held)) if word]
    if not named:
        return np.zeros((side, side), dtype=bool)
    seen = np.isin(render(scene).parts, named)
    return seen.reshape(side, DOWNSCALE, side, DOWNSCALE).sum(axis=(1, 3)) >= LEAST


def accessory_cells(folder: Path, seed: int, scenes: Sequence[Scene]) -> Tensor:
    """`accessories_in` of each scene of the training stream, (N, 16, 16); made when missing."""

    def cells() -> NDArray[Any]:
        log.info("looking for the accessories of %d scenes", len(scenes))
        return np.stack([accessories_in(scene) for scene in scenes])

    return _kept(folder / f"accessories-{seed}-{TRAIN}-{len(scenes)}.npy", cells)
