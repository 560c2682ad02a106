"""Method and Learner: what a training method is to the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from torch import Tensor, nn

from ..artifacts.weight_delta import WeightDelta
from ..config.stage import StageConfig
from ..data.batch import Batch
from ..losses.totals import LossTotals
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .base_weights import BaseWeights
from .denoising import Denoising

Part: TypeAlias = Callable[[], dict[str, Tensor]]
"""A part of a step's loss with a backward pass of its own: shares by name, when it is called."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are updated together. Optimiser, EMA, checkpoint and memory estimate read
    only this of what a method trains."""

    name: str
    """Tells groups apart in checkpoints."""
    parameters: Mapping[str, nn.Parameter]
    learning_rate: float | None = None
    """None: the settings' own."""


@dataclass(frozen=True)
class Learned:
    """What a training made, on the CPU: fp32, and a change of weights in the concept's precision
    where it is kept."""

    embeddings: dict[str, Tensor]
    """The placeholder's vectors (V, D) by text encoder."""
    delta: dict[str, WeightDelta] = field(default_factory=dict)
    """Change of every weight of the denoiser that was trained."""
    modules: dict[str, Tensor] = field(default_factory=dict, kw_only=True)
    """Weights of what a method adds to the model."""
    facts: dict[str, float] = field(default_factory=dict, kw_only=True)
    """Numbers for the record, by name, e.g. how far the embedding has moved."""


class Learner(Protocol):
    """A method at work on a model."""

    groups: Sequence[ParameterGroup]
    """All that is trained."""
    modules: Sequence[nn.Module]
    """What every step runs through; the frozen matrices in it may be kept in bf16."""
    denoising: Denoising
    """How it asks the model."""
    base: BaseWeights | None
    """The base's weights, where it keeps them next to those that it trains."""

    @property
    def embeddings(self) -> Embeddings:
        """The placeholder's vectors of this moment."""
        ...

    def losses(self, part: Batch, totals: LossTotals) -> dict[str, Tensor]:
        """Shares of the batch's loss, by name, of some of its samples on the device; their sum is
        what is learned."""
        ...

    def parts(self, batch: Batch, totals: LossTotals, micro_batch: int) -> Sequence[Part]:
        """A step's loss over a batch on the device, in parts that add up to it: of up to so many
        samples at a time, and then what no sample has."""
        ...

    def before_step(self, index: int) -> None:
        """Before the forward passes of a step, which it is: for draws that a step decides."""
        ...

    def after_step(self) -> None:
        """After every update of the parameters, e.g. to project them."""
        ...

    def added(self) -> dict[str, Tensor]:
        """Weights of what the method adds to the model, of this moment (`Learned.modules`)."""
        ...

    def learned(self) -> Learned:
        """What was learned so far."""
        ...

    def detach(self) -> None:
        """Leaves the model's structure as it was found; its weights stay as they were trained."""
        ...


class Method(Protocol):
    """A training method under some settings."""

    config: StageConfig
    loss_names: Sequence[str]
    """Names that `losses` may give, in the order of records; `prior` where the dataset has any."""
    version: int
    """1, and raised whenever the method gives other results under these settings: above 1 it is
    part of what a run is known by."""

    def attach(self, model: Model, start: Embeddings) -> Learner:
        """Makes a private model ready to be trained, from these vectors on."""
        ...
