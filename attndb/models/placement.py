"""Where a private model's weights are: on the device that computes, or waiting in main memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def shares_main_memory(device: torch.device) -> bool:
    """Whether a device has no memory of its own, so that what leaves it for the CPU takes as much
    as before: the CPU itself, and Apple's GPUs (MPS)."""
    return device.type in ("cpu", "mps")


def put(parameter: Tensor, value: Tensor) -> None:
    """Gives a parameter or a buffer another value, on any device; whoever holds it sees that."""
    parameter.data = value


def place(
    module: nn.Module, device: torch.device, *, without: Collection[nn.Parameter] = ()
) -> None:
    """Moves what a module has to a device, in place, but the parameters in `without`. What is there
    already is not touched."""
    left = {id(parameter) for parameter in without}
    for tensor in [*module.parameters(), *module.buffers()]:
        now = tensor.data
        there = now if id(tensor) in left else now.to(device)
        if there is not now:
            put(tensor, there)


@contextmanager
def placed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """All that a module has on a device for a while; what waited elsewhere waits there again."""
    elsewhere = [
        (tensor, tensor.data)
        for tensor in [*module.parameters(), *module.buffers()]
        if tensor.device.type != device.type
    ]
    try:
        place(module, device)
        yield
    finally:
        for tensor, waiting in elsewhere:
            put(tensor, waiting)
