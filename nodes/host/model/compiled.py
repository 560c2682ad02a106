"""A compiled U-Net, while something is done in its blocks that the host compiles no guard for."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import torch


def not_compiled() -> AbstractContextManager[object]:
    """Whatever torch.compile has wrapped runs as it was written; nothing else is affected."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6 and later
    if set_stance is None or "torch._dynamo" not in sys.modules:  # nothing can be compiled
        return nullcontext()
    return set_stance("force_eager")
