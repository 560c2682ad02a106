"""Training: a method at work on a private model, with its optimiser, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..artifacts.weight_delta import delta_tensors
from ..config.choices import Checkpointing
from ..data.batch import Batch
from ..losses.totals import LossTotals
from ..methods.method import Learned, Method
from ..models.conditioning import Embeddings
from ..models.placement import place
from ..models.precision import FrozenInBf16, frozen_matrices
from ..models.protocol import Model
from . import checkpoint
from .adamw_in_backward import AdamWInBackward
from .compiler import compiled_blocks
from .ema import EMA
from .micro_batches import MicroBatches, micro_batches_from, with_step
from .optimizers import create_optimizer, create_schedule
from .out_of_memory import MemoryFallback
from .ranks import Ranks
from .step_loss import PendingLoss, StepLoss, TrainingDivergedError
from .update import PlainUpdate, Update, UpdateInBackward


@dataclass(frozen=True)
class StageResult(Learned):
    """What a training learned, and how it went."""

    losses: tuple[StepLoss, ...] = ()
    """One per step."""
    micro_batches: MicroBatches = ()
    """Samples per forward pass, from which step on."""

    @property
    def vectors(self) -> Tensor:
        """The placeholder's vectors, of a model with one text encoder."""
        [vectors] = self.embeddings.values()
        return vectors


class Training:
    """A context manager: the model's structure is as it was after it."""

    def __init__(
        self, model: Model, method: Method, start: Embeddings, ranks: Ranks | None = None
    ) -> None:
        """`ranks`: the processes that make it together; None: this one alone."""
        self.model, self.method, self.config = model, method, method.config
        self.ranks = ranks or Ranks()
        config = self.config
        self.learner = method.attach(model, start)
        bf16 = self.learner.denoising.bf16
        self._frozen_in_bf16 = bf16 and (config.low_memory or not config.reparametrized)
        waiting = frozen_matrices(model.unet) if self._frozen_in_bf16 else []
        place(model.unet, model.device, without=waiting)
        self.trainable = [p for group in self.learner.groups for p in group.parameters.values()]
        self.optimizer = create_optimizer(self.learner.groups, config)
        self.schedule = create_schedule(self.optimizer, config.optimizer, config.steps)
        self.ema = EMA(self.trainable, config.ema_decay) if config.ema_decay else None
        self.losses: list[StepLoss] = []
        """Of the steps so far, as far as they were read from the device."""
        self.resumed_after = 0
        """Steps that were behind it when it began."""
        self.fallback = MemoryFallback(config, model.checkpoint_activations)
        self.micro_batches: MicroBatches = ()
        """Samples per forward pass so far, from which step on."""
        self.update: Update
        if isinstance(self.optimizer, AdamWInBackward):
            if self.ranks.many:
                raise ValueError(
                    "low_memory in stage 3 updates weights inside the backward pass, which several "
                    "processes cannot do together: turn it off, or train on one"
                )
            self.update = UpdateInBackward(self.optimizer)
        else:
            clip_norm = config.optimizer.clip_norm
            self.update = PlainUpdate(self.optimizer, self.trainable, clip_norm, model.device)
        self._entered = ExitStack()

    @property
    def micro_batch(self) -> int:
        """Samples per forward pass at the moment."""
        return self.fallback.micro_batch

    @property
    def recomputes(self) -> Checkpointing:
        """How much is computed again at the moment."""
        return self.fallback.recomputes

    @property
    def embeddings(self) -> Embeddings:
        """The placeholder's vectors of this moment."""
        return self.learner.embeddings

    @property
    def consistent(self) -> bool:
        """Whether weights and optimiser are those of a whole number of steps."""
        return self.update.consistent

    def __enter__(self) -> Training:
        with ExitStack() as entered:
            entered.callback(self._leave)
            if self.recomputes != "off":
                self.model.checkpoint_activations(self.recomputes)
            if self.config.compile:
                entered.enter_context(compiled_blocks(self.model))
            if self._frozen_in_bf16:
                frozen = FrozenInBf16(*self.learner.modules, device=self.model.device)
                entered.enter_context(frozen)
            if isinstance(self.optimizer, AdamWInBackward):
                entered.enter_context(self.optimizer)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()

    def _leave(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()  # weights in bf16 become fp32 next, in the place of the means
        self.learner.detach()

    def resume_from(self, losses: Sequence[StepLoss]) -> None:
        """The steps with these losses are behind it; what they trained is already in place."""
        self.losses, self.resumed_after = list(losses), len(losses)

    def step(self, index: int, batch: Batch) -> PendingLoss:
        """One optimiser step over a batch and its prior samples, in parts that add up exactly.

        On a card this only queues the work: the loss is on its way. On the CPU a loss that is not
        finite raises before it is learned.
        """
        batch, totals = batch.to(self.model.device), LossTotals.of(batch)
        self.learner.before_step(index)
        self.update.prepare(self.micro_batch, lambda: self._backward(index, batch, totals))
        loss = self._backward_of_all(index, batch, totals)
        self.update.apply()
        self.learner.after_step()
        if self.schedule is not None:
            self.schedule.step()
        if self.ema is not None:
            self.ema.update()
        samples = min(self.micro_batch, self.config.batch_size)
        self.micro_batches = with_step(self.micro_batches, index, samples)
        self.update.consistent = True
        return loss

    def read(self, loss: PendingLoss) -> None:
        """Takes the loss of the next step from the device. TrainingDivergedError if it is not
        finite: the weights went on from there, and are none to keep."""
        try:
            self.losses.append(loss.read())
        except TrainingDivergedError:
            self.update.consistent = False
            raise

    def _backward_of_all(self, index: int, batch: Batch, totals: LossTotals) -> PendingLoss:
        """`_backward`, in all processes together."""
        if not self.ranks.many:
            return self._backward(index, batch, totals)
        loss = self.ranks.together(lambda: self._backward(index, batch, totals))
        self.ranks.sum_gradients(self.trainable)
        return PendingLoss(index, loss.names, self.ranks.sum_in_fp64(loss.parts))

    def _backward(self, index: int, batch: Batch, totals: LossTotals) -> PendingLoss:
        """Gradients of a batch; with an update inside the backward pass also that."""
        # names are the same in every process: what its share of the batch lacks is 0
        names = tuple(n for n in self.method.loss_names if n != "prior" or batch.prior is not None)
        size = min(self.micro_batch, self.ranks.largest_share(self.config.batch_size))
        parts = self.ranks.share(self.learner.parts(batch, totals, size))
        none = torch.zeros((), device=self.model.device)
        done: list[Tensor] = []
        for number, part in enumerate(parts, start=1):
            shares = part()
            loss = torch.stack([shares.get(name, none) for name in names])
            done.append(loss.detach())
            pending = PendingLoss(index, names, torch.stack(done))
            self.update.backward(loss.sum(), number == len(parts), pending.read)
        parts_of_all = torch.stack(done) if done else none.expand(1, len(names))
        return PendingLoss(index, names, parts_of_all)

    def after_out_of_memory(self) -> str:
        """Forgets the step's gradients and asks for less memory from now on; what was done, for the
        log. ValueError if there is nothing left to do."""
        self.optimizer.zero_grad(set_to_none=True)
        return self.fallback.give_way(self.consistent)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint has to hold: tensors by name, and plain data for JSON."""
        groups = self.learner.groups
        tensors, plain = checkpoint.state_of(groups, self.optimizer, self.schedule, self.ema)
        return tensors, {**plain, "micro_batches": self.micro_batches}

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Puts back what `state` gave. ValueError if it is of another training."""
        groups = self.learner.groups
        checkpoint.restore(tensors, plain, groups, self.optimizer, self.schedule, self.ema)
        now = [[0, min(self.micro_batch, self.config.batch_size)]]  # an earlier version tells none
        self.micro_batches = micro_batches_from(plain.get("micro_batches", now))

    @contextmanager
    def as_result(self) -> Iterator[None]:
        """Inside, what is trained has the values that `result` gives: the average, where there is
        one. Afterwards it has those of before, to the bit: for whoever looks at it on its way."""
        averages = hasattr(self.optimizer, "eval")  # schedule-free keeps two sets of weights
        kept = [p.detach().to("cpu", copy=True) for p in self.trainable] if averages else []
        try:
            if averages:
                self.optimizer.eval()  # type: ignore[operator]
            with nullcontext() if self.ema is None else self.ema.in_place():
                yield
        finally:
            if averages:
                self.optimizer.train()  # type: ignore[operator]
            with torch.no_grad():
                for parameter, value in zip(self.trainable, kept, strict=False):
                    parameter.copy_(value)

    def result_now(self) -> StageResult:
        """What `result` would give at this step; the training goes on as if nobody had asked."""
        with self.as_result():
            return self._learned()

    def result(self) -> StageResult:
        """What was learned: the average if there is one, else the last weights.
        TrainingDivergedError if a value of it is not finite: the last update has no later loss that
        would tell."""
        if hasattr(self.optimizer, "eval"):
            self.optimizer.eval()  # type: ignore[operator]
        if self.ema is not None:
            self.ema.copy_to_parameters()
        return self._learned()

    def _learned(self) -> StageResult:
        learned = self.learner.learned()
        for name, value in _named(learned).items():
            if not bool(value.isfinite().all()):
                raise TrainingDivergedError(
                    f"after step {len(self.losses)}: {name} is not finite, so the stage gives "
                    "nothing. Lower the learning rate, or set precision to fp32"
                )
        return StageResult(
            **vars(learned), losses=tuple(self.losses), micro_batches=self.micro_batches
        )


def _named(learned: Learned) -> dict[str, nn.Parameter | Tensor]:
    vectors = {f"the embedding ({name})": value for name, value in learned.embeddings.items()}
    return {**vectors, **delta_tensors(learned.delta), **learned.modules}
