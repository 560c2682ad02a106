"""The training set as the diffusion model sees it: latents of all scenes, on disk."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..attndb.artifacts.tensor_file import write_whole
from .autoencoder import Autoencoder
from .stock import TRAIN, rendered, to_model_range
from .world import Scene

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
