"""A card that is not there: fake CUDA tensors have a shape, a dtype and a device, and no values.

An operation whose tensors are on different devices raises, as it would on a real card. Autograd's
backward pass asks the driver for a card, so that has to wait for a real one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ..attndb.models import placement, precision

CARD = torch.device("cuda", 0)


@contextmanager
def fake_card() -> Iterator[None]:
    """Inside, tensors are fake and CUDA is said to be there; pinned memory is plain memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    def pinned(tensor: Tensor, *_: Any) -> Tensor:
        return tensor

    def put(parameter: Any, value: Tensor) -> None:
        parameter.data = value
        if hasattr(parameter, "fake_device"):  # which a fake tensor does not take from its data
            parameter.fake_device = value.device

    with (
        mock.patch.object(Tensor, "pin_memory", pinned),
        mock.patch.object(placement, "put", put),
        mock.patch.object(precision, "put", put),
        mock.patch.object(torch.cuda, "is_bf16_supported", lambda **_: True),
        mock.patch.object(torch.cuda, "get_device_capability", lambda *_: (9, 0)),
        mock.patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        yield


def on_fake_card(module: nn.Module) -> Any:
    """A copy whose parameters and buffers are fake and on the card; inside `fake_card`."""
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        twin: Tensor = torch.empty(tensor.shape, dtype=tensor.dtype, device=CARD)
        if isinstance(tensor, nn.Parameter):
            twin = nn.Parameter(twin, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = twin
    return copy.deepcopy(module, memo)
