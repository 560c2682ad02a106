"""Operations: what PyTorch computes inside, told one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """Calls `tell(func, args, made)` after every operation; `made`: the tensors that it gave."""

    def __init__(self, tell: Callable[[Any, Any, list[Tensor]], object]) -> None:
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        parts = out if isinstance(out, (tuple, list)) else (out,)
        self._tell(func, args, [one for one in parts if isinstance(one, Tensor)])
        return out
