"""Nodes and stock samplers in this process: wires, a small dataset, what is drawn and encoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

IMAGE_SIDE = 96


@dataclass(frozen=True)
class Wires:
    """What Load Checkpoint gives."""

    model: Any
    clip: Any
    vae: Any

    def named(self) -> dict[str, Any]:
        return {"model": self.model, "clip": self.clip, "vae": self.vae}


def load(path: Path) -> Wires:
    """As Load Checkpoint does it."""
    import comfy.sd
    import folder_paths

    with torch.inference_mode():
        model, clip, vae = comfy.sd.load_checkpoint_guess_config(
            str(path), embedding_directory=folder_paths.get_folder_paths("embeddings")
        )[:3]
    return Wires(model, clip, vae)


def small(kind: Any, width: int | None = None) -> Wires:
    """A small model of the family, as Load Checkpoint would give it; its text states may be as
    wide as the family's real ones, which files of other programs are known by."""
    import folder_paths

    from attndreambooth.devkit.small_models import small_wires

    return Wires(*small_wires(kind, folder_paths.get_folder_paths("embeddings"), width))


def photos(count: int = 3) -> torch.Tensor:
    """Views of one real photograph as an IMAGE batch."""
    from skimage import data

    picture = data.astronaut()
    views = [picture[i * 30 : i * 30 + 300 : 3, i * 40 : i * 40 + 300 : 3] for i in range(count)]
    return torch.from_numpy(np.stack(views)[:, :IMAGE_SIDE, :IMAGE_SIDE]).float() / 255


def dataset(run: Any, **changes: Any) -> Any:
    """A concept dataset of three small photos."""
    words = {"category": "person", "placeholder": "<astro>", **changes}
    return run("AttnDBConceptDatasetFromImages", images=photos(), **words)[0]


STAGES = {
    1: ("AttnDBStage1LearnEmbedding", 1e-2),
    2: ("AttnDBStage2TrainCrossAttention", 1e-3),
    3: ("AttnDBStage3TrainUNet", 1e-4),
}


def draw(model: Any, clip: Any, prompt: str, seed: int = 5) -> torch.Tensor:
    """Samples by the stock nodes: CLIPTextEncode and KSampler, three steps."""
    import nodes

    positive, negative = (
        nodes.CLIPTextEncode().encode(clip, text)[0] for text in (prompt, "blurry")
    )
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    return nodes.KSampler().sample(
        model, seed, 3, 7.5, "dpmpp_2m", "karras", positive, negative, latent, 1.0
    )[0]["samples"]


def encode(clip: Any, text: str) -> torch.Tensor:
    """Text states by the stock CLIPTextEncode."""
    import nodes

    return nodes.CLIPTextEncode().encode(clip, text)[0][0][0]


def refuses(text: str) -> Any:
    """A context in which a node raises a NodeError with this text (a regular expression)."""
    from attndreambooth.nodes.errors import NodeError

    return pytest.raises(NodeError, match=text)
