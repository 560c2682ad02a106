"""Weight files of attndb-micro beside their model card, checked at every load."""

from pathlib import Path

import torch
from torch import Tensor

from .autoencoder import Autoencoder
from .clip import ClipScores, MicroClip
from .judges import Judges
from .text import CaptionEncoder, Vocabulary
from .weight_files import CLIP, FOLDER, JUDGES, MODEL, load, take

AUTOENCODER = "first_stage_model."
"""Prefix of its tensors in the model's file."""


def half(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state of a module with floating-point values in fp16."""
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def full(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with floating-point values in fp32."""
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_autoencoder(folder: Path = FOLDER) -> Autoencoder:
    """That of the shipped model; WeightsError unless the file is the one of the card."""
    tensors, _ = load(MODEL, folder)
    model = Autoencoder()
    model.load_state_dict(full(take(tensors, AUTOENCODER)))
    return model.eval().requires_grad_(False)


def load_judges(folder: Path = FOLDER) -> Judges:
    """The shipped judges; WeightsError unless the file is the one of the card."""
    tensors, _ = load(JUDGES, folder)
    model = Judges()
    model.load_state_dict(full(tensors))
    return model.eval().requires_grad_(False)


def load_micro_clip(captions: CaptionEncoder, folder: Path = FOLDER) -> ClipScores:
    """The shipped micro CLIP; WeightsError unless the file is the one of the card."""
    tensors, metadata = load(CLIP, folder)
    model = MicroClip(Vocabulary([int(token) for token in metadata["vocabulary"].split()]))
    model.load_state_dict(full(tensors))
    return ClipScores(model.eval().requires_grad_(False), captions)
