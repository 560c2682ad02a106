"""How gradients become updates: all at once after the backward pass, or one by one inside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .adamw_in_backward import AdamWInBackward


class Update(Protocol):
    """One optimiser step, in the order of these methods."""

    consistent: bool
    """Whether weights and optimiser are those of a whole number of steps."""

    def prepare(self, micro_batch: int, backward: Callable[[], Any]) -> None:
        """Before the step; `backward` runs all its backward passes."""
        ...

    def backward(self, loss: Tensor, last: bool, check: Callable[[], Any]) -> None:
        """The gradient of a part of the batch's loss. `check` raises where the loss is not finite,
        and is called before anything is learned from it."""
        ...

    def apply(self) -> None:
        """The parameters are those of the next step, and have no gradient."""
        ...


class PlainUpdate:
    """The optimiser's own step, after the gradient of the whole batch is there."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        clip_norm: float,
        device: torch.device,
    ) -> None:
        self.consistent = True
        self._optimizer, self._parameters = optimizer, parameters
        self._clip_norm, self._on_the_cpu = clip_norm, device.type == "cpu"

    def prepare(self, micro_batch: int, backward: Callable[[], Any]) -> None:
        """Nothing: until `apply` nothing is changed."""

    def backward(self, loss: Tensor, last: bool, check: Callable[[], Any]) -> None:
        """Adds to the gradient. On a card the loss is on its way and is checked later."""
        loss.backward()
        if last and self._on_the_cpu:
            check()

    def apply(self) -> None:
        """Clips, steps, forgets the gradient."""
        self.consistent = False
        if self._clip_norm:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


class UpdateInBackward:
    """Every weight is updated in the last backward pass, the moment its gradient is there."""

    def __init__(self, optimizer: AdamWInBackward) -> None:
        self.consistent = True
        self._optimizer = optimizer
        self._tried, self._trying = 0, False

    def prepare(self, micro_batch: int, backward: Callable[[], Any]) -> None:
        """With a new micro-batch, backward passes that change nothing and need what those that
        update will: running out of memory is harmless in them, and is not in the others."""
        if self._tried == micro_batch:
            return
        self._trying = True
        try:
            with self._optimizer.room_taken():
                backward()
        finally:
            self._trying = False
            self._optimizer.zero_grad()
        self._tried = micro_batch

    def backward(self, loss: Tensor, last: bool, check: Callable[[], Any]) -> None:
        """Gathers gradients, or with the last part updates: from there is no way back."""
        self._optimizer.mode = "gather"
        if last and self._trying:
            self._optimizer.mode = "drop"
        elif last:
            check()
            self._optimizer.mode, self.consistent = "update", False
        loss.backward()

    def apply(self) -> None:
        """All is done; what was gathered is forgotten."""
        self._optimizer.step()  # changes nothing, but schedules count it
        self._optimizer.zero_grad(set_to_none=True)
