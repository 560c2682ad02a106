"""The training set as the diffusion model sees it: latents of all scenes and what their cells show,
on disk."""

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
SCENERY, OBJECT, ACCESSORY = range(3)
"""What a latent cell shows: place and sky; the subject or what is beside it; a hat, held thing."""


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


def shown_in(scene: Scene) -> NDArray[np.uint8]:
    """(16, 16) what each latent cell shows: SCENERY, OBJECT, or ACCESSORY for a hat or held thing
    which the scene's words name; one that they do not name is a part of its OBJECT."""
    side = SIZE // DOWNSCALE
    named = [role for role, word in ((HAT, scene.words.hat), (HELD, scene.words.held)) if word]
    drawn = render(scene)

    def seen(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return pixels.reshape(side, DOWNSCALE, side, DOWNSCALE).sum(axis=(1, 3)) >= LEAST

    cells = np.full((side, side), SCENERY, dtype=np.uint8)
    cells[seen((drawn.parts > 0) | drawn.companion)] = OBJECT
    cells[seen(np.isin(drawn.parts, named))] = ACCESSORY
    return cells


def shown_cells(folder: Path, seed: int, scenes: Sequence[Scene]) -> Tensor:
    """`shown_in` of each scene of the training stream, (N, 16, 16); made when missing."""

    def cells() -> NDArray[Any]:
        log.info("looking at what the cells of %d scenes show", len(scenes))
        return np.stack([shown_in(scene) for scene in scenes])

    return _kept(folder / f"shown-{seed}-{TRAIN}-{len(scenes)}.npy", cells)
