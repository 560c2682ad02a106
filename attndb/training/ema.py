"""EMA: an exponential moving average of what is trained."""

from __future__ import annotations

from collections.abc import Sequence

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
