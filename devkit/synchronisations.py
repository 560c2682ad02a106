"""Synchronisations: where a program would wait for a card, counted without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_WAITS = {
    _ATEN._local_scalar_dense.default,  # .item(), float(), bool()
    _ATEN.equal.default,
    _ATEN.is_nonzero.default,
    _ATEN.masked_select.default,
    _ATEN.nonzero.default,
    _ATEN._linalg_check_errors.default,
}
_INDEXES = {_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default}
_COPIES = {_ATEN._to_copy.default, _ATEN.copy_.default}


class Synchronisations(TorchDispatchMode):
    """Inside, `found` gets the operations whose result the host needs before it can go on: values
    that are read, shapes that depend on values, and copies from a card to the host.

    On plain CPU tensors only the first two can be seen, on fake CUDA tensors all three.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Notes the operation and carries it out."""
        kwargs = kwargs or {}
        waits = func in _WAITS or (func in _INDEXES and _by_truth(args[1]))
        if waits or (func in _COPIES and _leaves_the_card(func, args, kwargs)):
            self.found.append(str(func))
        return func(*args, **kwargs)


def _by_truth(indices: Sequence[Tensor | None]) -> bool:
    """Whether how many values are picked depends on values."""
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _leaves_the_card(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if func is _ATEN.copy_.default:
        target, source = args[0].device, args[1]
    else:
        source, target = args[0], kwargs.get("device")
    on_card = isinstance(source, Tensor) and source.device.type == "cuda"
    return on_card and target is not None and torch.device(target).type == "cpu"
