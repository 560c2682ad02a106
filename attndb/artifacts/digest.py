"""SHA-256 of named tensors: what weights, concepts and runs are recognised by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and values, in name order."""
    content = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        content.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        content.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
