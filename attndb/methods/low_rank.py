"""LowRankParameter: a trainable low-rank change of a weight, and the layers that compute with it.

A layer computes W x + U (D x): two thin layers beside the frozen one. W + U D is never formed, so
a step has neither a copy of the weight nor a gradient of its size.

Shapes: O output features, I input features (times the kernel, for a convolution), R rank.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..artifacts.weight_delta import LowRank

_PLACE = "low_rank"
"""Name of the change in its layer."""


class LowRankParameter(nn.Module):
    """A trainable low-rank change of a weight; starts at zero."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        outputs, inputs = weight.shape[0], weight[0].numel()
        rank = min(rank, outputs, inputs)
        if weight.is_meta:  # a trace of shapes draws nothing
            start = torch.empty(rank, inputs, device=weight.device)
        else:
            start = torch.rand(rank, inputs, generator=generator) * 2.0 - 1.0
        self.down = nn.Parameter((start * (3.0 / inputs) ** 0.5).to(weight.device))  # (R, I)
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))  # (O, R)
        self.off = False
        """Whether the layer computes without it."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with the change, in its shape."""
        if self.off:
            return weight
        return weight + (self.up @ self.down).reshape(self.shape)

    def delta(self) -> LowRank:
        """What was learned so far, fp32, on the CPU."""
        up, down = (p.detach().float().cpu().clone() for p in (self.up, self.down))
        return LowRank(up, down, self.shape)


class LowRankLayer:
    """A layer of the model that computes with a change of its weight, until `remove`."""

    def __init__(self, layer: nn.Module, kind: str, change: LowRankParameter) -> None:
        """`kind`: name of the changed parameter in the layer, a `weight` as a rule."""
        self._layer, self._kind, self._class = layer, kind, type(layer)
        front = front_of(layer) if kind == "weight" else None
        if front is None:  # no layer of Stable Diffusion: here the changed weight is formed
            parametrize.register_parametrization(layer, kind, change, unsafe=True)
        else:
            setattr(layer, _PLACE, change)
            layer.__class__ = _with(front, self._class)

    def remove(self) -> None:
        """The layer is as it was. Asked for again, does nothing."""
        if _PLACE in self._layer._modules:
            delattr(self._layer, _PLACE)
            self._layer.__class__ = self._class
        elif parametrize.is_parametrized(self._layer, self._kind):
            parametrize.remove_parametrizations(self._layer, self._kind, leave_parametrized=False)


# What a layer does is changed by its class. A `forward` set on the module would hold the module's
# own bound method: a cycle, which keeps a finished stage's weights until Python looks for garbage.
# The change is in the layer's output, so hooks on the layer (attention/tap.py) see it.


class _LowRankLinear:
    """In front of a linear layer's class."""

    low_rank: LowRankParameter

    def forward(self, x: Tensor) -> Tensor:
        if self.low_rank.off:
            return super().forward(x)  # type: ignore[misc]
        rows = x.reshape(-1, x.shape[-1])
        plain, thin = super().forward(rows), F.linear(rows, self.low_rank.down)  # type: ignore[misc]
        # into the output: a sum of its own is one more pass over it, there and back. A transpose of
        # its own: the backward pass multiplies with it again, and reads rows of R slowly
        up = self.low_rank.up.t().to(plain.dtype).contiguous()
        changed = plain.addmm_(thin, up)
        return changed.reshape(*x.shape[:-1], -1)


class _LowRankConvolution:
    """In front of a convolution's class: D is a convolution of the same kernel, stride and padding
    to R channels, U one of 1 x 1."""

    low_rank: LowRankParameter

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = super()
        change = self.low_rank
        if change.off:
            return layer.forward(x)
        down = change.down.unflatten(1, change.shape[1:])
        up = change.up.reshape(*change.up.shape, *(1 for _ in change.shape[2:]))
        thin = layer._conv_forward(x, down, None)
        return layer.forward(x).add_(_CONVOLUTIONS[len(change.shape) - 2](thin, up))


_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def front_of(layer: nn.Module) -> type | None:
    """How a layer of this kind computes with a change; None where only its weight can say."""
    if isinstance(layer, nn.Linear):
        return _LowRankLinear
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.groups == 1:
        return _LowRankConvolution
    return None


@functools.cache
def _with(front: type, kind: type) -> type:
    """The class of layers of this kind with a change in front."""
    return type(f"{front.__name__}{kind.__name__}", (front, kind), {"__module__": __name__})
