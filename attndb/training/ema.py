"""EMA: an exponential moving average of what is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """An exponential moving average of parameters (torch.optim.swa_utils), in fp32."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._update = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
        self.values: list[Tensor] = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters of this moment in."""
        self._update(self.values, [p.detach() for p in self._parameters], 0)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Puts the average in the place of the parameters."""
        for parameter, value in zip(self._parameters, self.values, strict=True):
            parameter.copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters are the average. The two change places, which takes no memory: on
        a card there is none for a third set."""
        self._change_places()
        try:
            yield
        finally:
            self._change_places()

    def _change_places(self) -> None:
        for index, parameter in enumerate(self._parameters):
            parameter.data, self.values[index] = self.values[index], parameter.data
