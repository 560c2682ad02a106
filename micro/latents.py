"""The training set as the diffusion model sees it: latents of all scenes and the cells of their
named accessories, on disk."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..attndb.artifacts.tensor_file import write_whole
from .autoencoder import Autoencoder
from .stock import TRAIN, rendered, to_model_range
from .world import SIZE, Scene, render
from .world.shapes import HAT, HELD

log = logging.getLogger(__name__)


@torch.no_grad()
def encoded(
    folder: Path, model: Autoencoder, seed: int, count: int, digest: str, batch: int = 50
) -> tuple[Tensor, list[Scene]]:
    """Latents (count, C, 16, 16) in fp16 and scenes of the training stream; made when missing.

    `digest` names the autoencoder: latents of another one are not taken for these.
    """
    path = folder / f"latents-{seed}-{TRAIN}-{count}-{digest[:12]}.npy"
    pictures, scenes = rendered(folder, seed, TRAIN, count)
    if not path.exists():
        log.info("encoding %d scenes to %s", count, path)
        model.eval()
        parts = [
            model.encode(to_model_range(pictures[start : start + batch])).half().cpu().numpy()
            for start in range(0, count, batch)
        ]
        latents = np.concatenate(parts)
        write_whole({path: lambda file: np.save(file, latents)})
    return torch.from_numpy(np.load(path)), scenes


CELL = 8  # px of a latent cell
LEAST = 6  # px of a cell that a part must cover to be seen in it


def accessories_in(scene: Scene) -> np.ndarray:
    """(16, 16) the latent cells that show a hat or held thing which the scene's words name."""
    side = SIZE // CELL
    named = [role for role, word in ((HAT, scene.words.hat), (HELD, scene.words.held)) if word]
    if not named:
        return np.zeros((side, side), dtype=bool)
    seen = np.isin(render(scene).parts, named)
    return seen.reshape(side, CELL, side, CELL).sum(axis=(1, 3)) >= LEAST


def accessory_cells(folder: Path, seed: int, scenes: Sequence[Scene]) -> Tensor:
    """`accessories_in` of each scene of the training stream, (N, 16, 16); made when missing."""
    path = folder / f"accessories-{seed}-{TRAIN}-{len(scenes)}.npy"
    if not path.exists():
        log.info("looking for the accessories of %d scenes", len(scenes))
        cells = np.stack([accessories_in(scene) for scene in scenes])
        write_whole({path: lambda file: np.save(file, cells)})
    return torch.from_numpy(np.load(path))
