"""BaseWeights: the base model's weights next to those that a stage trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..losses.weight_anchor import squared_distance, squared_low_rank
from ..models.precision import is_matrix
from ..models.protocol import Model
from .trained_weights import LowRankWeights, TrainedWeights, WholeWeights


class BaseWeights:
    """What the base MODEL has where a stage, or the concept that it goes on from, has changed it.

    Made before the first step. Whole weights are kept a second time, on the device; of a LoRA
    nothing is, as long as no concept lies between it and the base.
    """

    def __init__(self, model: Model, weights: TrainedWeights) -> None:
        self._model, self._weights = model, weights
        start = weights.start if isinstance(weights, WholeWeights) else {}
        self._values = {**start, **model.base_weights}
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}
        self._gaps: dict[str, Tensor] = {}
        self._swapped: list[tuple[nn.Parameter, Tensor]] = []

    def anchor(self) -> Callable[[], Tensor]:
        """sum_i ||theta_i - theta_i,base||^2 over what is trained, as a function of the moment."""
        weights = self._weights
        terms: list[Callable[[], Tensor]]
        if isinstance(weights, WholeWeights):
            terms = [
                partial(squared_distance, weight, self._on_the_device(name, weight.dtype))
                for name, weight in weights.parameters.items()
            ]
        else:
            assert isinstance(weights, LowRankWeights), "the settings refuse other changes"
            terms = [
                partial(squared_low_rank, change.up, change.down, self._gap(name))
                for name, change in weights.changes.items()
            ]
        return lambda: torch.stack([term() for term in terms]).sum()

    def prediction(self, bf16: bool) -> Callable[[], AbstractContextManager[None]]:
        """A context, as often as it is asked for, in which the U-Net is the base's: for forward
        passes without gradient. `bf16`: under autocast, which rounds matrices anyway: kept so."""
        for name in self._values:
            weight = _parameter(self._model.unet, name)
            rounded = bf16 and is_matrix(weight) and (name, weight.dtype) not in self._kept
            dtype = torch.bfloat16 if rounded else weight.dtype
            self._swapped.append((weight, self._on_the_device(name, dtype)))
        return self._in_place

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        weights = self._weights
        changes = weights.changes.values() if isinstance(weights, LowRankWeights) else ()
        trained = [weight.data for weight, _ in self._swapped]
        try:
            for change in changes:
                change.off = True
            for weight, base in self._swapped:
                weight.data = base
            yield
        finally:
            for (weight, _), now in zip(self._swapped, trained, strict=True):
                weight.data = now
            for change in changes:
                change.off = False

    @property
    def tensors(self) -> list[Tensor]:
        """All that is kept."""
        return [*self._kept.values(), *self._gaps.values()]

    def bytes_held(self, on_the_cpu: bool) -> int:
        """On the device, beside the weights. On a CPU most is what waits there anyway."""
        copies = sum(
            kept.nbytes
            for (name, dtype), kept in self._kept.items()
            if not on_the_cpu or dtype != self._values[name].dtype
        )
        return copies + sum(gap.nbytes for gap in self._gaps.values())

    def _on_the_device(self, name: str, dtype: torch.dtype) -> Tensor:
        key = name, dtype
        if key not in self._kept:
            self._kept[key] = self._values[name].to(self._model.device, dtype)
        return self._kept[key]

    def _gap(self, name: str) -> Tensor | None:
        """From the base to the frozen weight under a low-rank change; None where they are one."""
        if name not in self._values:
            return None
        weight, device = _parameter(self._model.unet, name).detach(), self._model.device
        self._gaps[name] = weight.to(device) - self._values[name].to(device)
        return self._gaps[name]


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    """A parameter by the name that it has without any change on it."""
    path, _, kind = name.rpartition(".")
    owner = module.get_submodule(path)
    if parametrize.is_parametrized(owner, kind):
        return owner.parametrizations[kind].original  # type: ignore[index]
    return getattr(owner, kind)
