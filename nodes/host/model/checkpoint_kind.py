"""Of which kind a checkpoint file is, before it is loaded."""

from __future__ import annotations

import logging
from math import prod

import torch
from comfy import model_detection
from safetensors import safe_open
from torch import Tensor

from ....attndb.config.model_fit import ModelKind
from .families import model_kind

log = logging.getLogger(__name__)

_READ = 4096
"""Numbers of a tensor that is read: the host looks into some small ones to tell SD 2.1-768."""


def checkpoint_kind(path: str) -> ModelKind | None:
    """What the model of a file asks of settings, as the host recognises it; None where it does not,
    or where all of the file would have to be read (.ckpt)."""
    if not path.lower().endswith((".safetensors", ".sft")):
        return None
    try:
        tensors = _sketched(path)
        prefix = model_detection.unet_prefix_from_state_dict(tensors)
        config = model_detection.model_config_from_unet(tensors, prefix)
        return None if config is None else model_kind(config, config.model_type(tensors, prefix))
    except Exception:  # a warning is worth no training; what is wrong is said when it is loaded
        log.debug("%s was not recognised", path, exc_info=True)
        return None


def _sketched(path: str) -> dict[str, Tensor]:
    """The file's tensors, the large ones without their numbers."""
    found: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():
            shape = file.get_slice(name).get_shape()
            small = prod(shape) <= _READ
            found[name] = file.get_tensor(name) if small else torch.empty(shape, device="meta")
    return found
