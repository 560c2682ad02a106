"""Watcher: whoever follows a training without a page, e.g. a program on the command line."""

from __future__ import annotations

from typing import Protocol

from ....attndb.training.step_loss import StepLoss
from .plan import NodePlan


class Watcher(Protocol):
    """Told what the text under a node tells."""

    def encoding(self, plan: NodePlan, done: int, total: int) -> None:
        """So many crops of photos are encoded, of how many."""
        ...

    def step(self, plan: NodePlan, loss: StepLoss) -> None:
        """A step of the plan's present stage is done."""
        ...

    def stage(self, plan: NodePlan) -> None:
        """The plan's present stage is finished; `plan.folder` and `plan.kept` say where."""
        ...


class NoWatcher:
    """Follows nothing."""

    def encoding(self, plan: NodePlan, done: int, total: int) -> None:
        pass

    def step(self, plan: NodePlan, loss: StepLoss) -> None:
        pass

    def stage(self, plan: NodePlan) -> None:
        pass
