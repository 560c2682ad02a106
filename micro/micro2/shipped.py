"""Weight files of attndb-micro 2 beside their model card, checked at every load."""

from pathlib import Path

import torch
from torch import Tensor

from .. import weight_files
from .autoencoder import Autoencoder
from .clip import ClipScores, MicroClip
from .judges import Judges
from .text import CaptionEncoder, Vocabulary

FOLDER = Path(__file__).resolve().parent / "weights"
AUTOENCODER = "attndb-micro-autoencoder.safetensors"
JUDGES = weight_files.JUDGES
CLIP = weight_files.CLIP
MODEL = weight_files.MODEL


def half(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state of a module with floating-point values in fp16."""
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def _full(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_autoencoder(folder: Path = FOLDER) -> Autoencoder:
    """The shipped autoencoder; WeightsError unless the file is the one of the card."""
    tensors, _ = weight_files.load(AUTOENCODER, folder)
    model = Autoencoder()
    model.load_state_dict(_full(tensors))
    return model.eval().requires_grad_(False)


def load_judges(folder: Path = FOLDER) -> Judges:
    """The shipped judges; WeightsError unless the file is the one of the card."""
    tensors, _ = weight_files.load(JUDGES, folder)
    model = Judges()
    model.load_state_dict(_full(tensors))
    return model.eval().requires_grad_(False)


def load_micro_clip(captions: CaptionEncoder, folder: Path = FOLDER) -> ClipScores:
    """The shipped micro CLIP; WeightsError unless the file is the one of the card."""
    tensors, metadata = weight_files.load(CLIP, folder)
    model = MicroClip(Vocabulary([int(token) for token in metadata["vocabulary"].split()]))
    model.load_state_dict(_full(tensors))
    return ClipScores(model.eval().requires_grad_(False), captions)
