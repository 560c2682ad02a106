"""Ranks: the processes of one training, each of which computes a share of every batch.

Every process draws the whole batch and knows its totals; of the parts that its loss is made of it
computes those of its rank. Their gradients are summed, not averaged: parts are divided by the
totals of the whole batch, so that the sum is the gradient of one process, the regulariser's sum
over the batch included.

What one process alone learns (out of memory, Cancel, an error) is told to all before gradients are
summed: either all of them make the step, or none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .out_of_memory import is_out_of_memory

T = TypeVar("T")
_WELL, _OUT_OF_MEMORY, _STOPPED = 0, 1, 2
_SUMMED_AT_ONCE = 1 << 24
"""Values of gradients: 64 MiB in fp32; more only where one gradient alone has more."""


class RankStoppedError(RuntimeError):
    """Another process of the training stops it."""


class RankLostError(RuntimeError):
    """Another process of the training has died, or cannot be reached."""


class Ranks:
    """This process among those that train together; alone unless told otherwise."""

    def __init__(self, together: bool = False) -> None:
        """`together`: with all processes of the group that torch.distributed has. Only whoever made
        it says so: in a host another pack may have made one for its own purposes."""
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1
        self._ended = False

    @property
    def many(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    @property
    def first(self) -> bool:
        """Whether this is the process that reads, writes and tells."""
        return self.rank == 0

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """Those of a loss's parts that are this process's."""
        return parts[self.rank :: self.size]

    def largest_share(self, samples: int) -> int:
        """The most samples of a batch that a process computes."""
        return -(-samples // self.size)

    def together(self, work: Callable[[], T]) -> T:
        """What `work` gives, if it goes well in all processes. What it raises here is raised, and
        the others stop; OutOfMemoryError if memory ran out in one of them, so that all go on
        with parts of the same size."""
        if not self.many:
            return work()
        try:
            done = work()
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._agree(_OUT_OF_MEMORY)
            raise
        if self._agree(_WELL) == _OUT_OF_MEMORY:
            raise torch.cuda.OutOfMemoryError("another process of this training is out of memory")
        return done

    def stop(self) -> None:
        """This process leaves the training early: the others are told at their next step."""
        if self.many and not self._ended:
            self._ended = True
            self._agree(_STOPPED)

    def end(self) -> None:
        """All steps are done; RankStoppedError if another process could not make them."""
        if self.many and not self._ended:
            self._agree(_WELL)
            self._ended = True

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every gradient becomes the sum of all processes'."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        by_kind: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for gradient in (p.grad for p in parameters):
            assert gradient is not None
            by_kind.setdefault((gradient.dtype, gradient.device), []).append(gradient)
        for gradients in by_kind.values():
            for some in _at_once(gradients):
                flat = torch.cat([gradient.reshape(-1) for gradient in some])
                self.sum(flat)
                parts = flat.split([gradient.numel() for gradient in some])
                for gradient, part in zip(some, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))

    def largest(self, number: int) -> int:
        """The largest that a process has of a number."""
        if not self.many:
            return number
        of_all = torch.tensor([number])
        self._collective(lambda: dist.all_reduce(of_all, dist.ReduceOp.MAX))
        return int(of_all)

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor, which has become the sum of all processes'."""
        if _is_summed_where_it_is(tensor):
            self._collective(lambda: dist.all_reduce(tensor))
            return tensor
        waiting = tensor.cpu()
        self._collective(lambda: dist.all_reduce(waiting))
        return tensor.copy_(waiting)

    def sum_in_fp64(self, values: Tensor) -> Tensor:
        """The sum (1, N) of all rows (M, N) of all processes."""
        if not _is_summed_where_it_is(values):
            values = values.cpu()  # MPS has no fp64, nor have several of Intel's cards
        return self.sum(values.double().sum(dim=0, keepdim=True))

    def check_same(self, asked: Mapping[str, Any]) -> None:
        """ValueError, in all processes, unless all were asked for the same training."""
        if not self.many:
            return
        own = json.dumps(asked, sort_keys=True)
        of_first = self._text_of_first(own)
        differs = torch.zeros(self.size, dtype=torch.int64)
        differs[self.rank] = own != of_first
        self.sum(differs)
        if not differs.any():
            return
        others = ", ".join(str(rank) for rank in differs.nonzero().flatten().tolist())
        said = "" if own == of_first else f": {_difference(json.loads(of_first), asked)}"
        raise ValueError(
            f"processes {others} of this training were asked for another one than process 0{said}. "
            "Start all with the same files and settings"
        )

    def of_first(self, state: tuple[Mapping[str, Tensor], Any] | None) -> tuple[dict, Any]:
        """Tensors by name and plain data of the first process, in all of them; it gives `state`,
        the others None. Tensors come on the CPU."""
        tensors: dict[str, Tensor] = {}
        plain: Any = None
        text = ""
        if state is not None:
            tensors, plain = {n: t.detach().cpu() for n, t in state[0].items()}, state[1]
            shapes = [[n, list(t.shape), str(t.dtype)[6:]] for n, t in tensors.items()]
            text = json.dumps([shapes, plain])
        shapes, plain = json.loads(self._text_of_first(text))
        for name, shape, dtype in shapes:
            value = tensors.get(name)
            if value is None:
                value = torch.empty(shape, dtype=getattr(torch, dtype))
            whole = value.contiguous()
            self._collective(lambda whole=whole: dist.broadcast(whole, 0))
            tensors[name] = whole
        return tensors, plain

    def _text_of_first(self, text: str) -> str:
        """The first process's text, in all of them."""
        content = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
        size = torch.tensor([len(content)])
        self._collective(lambda: dist.broadcast(size, 0))
        if not self.first:
            content = torch.empty(int(size), dtype=torch.uint8)
        self._collective(lambda: dist.broadcast(content, 0))
        return bytes(content.tolist()).decode()

    def _agree(self, state: int) -> int:
        worst = torch.tensor([state])
        self._collective(lambda: dist.all_reduce(worst, dist.ReduceOp.MAX))
        if int(worst) == _STOPPED and state != _STOPPED:
            self._ended = True
            raise RankStoppedError(
                "another process of this training stopped it: its own log says why. What was done "
                "is kept; start all of them again to go on"
            )
        return int(worst)

    def _collective(self, collective: Callable[[], Any]) -> None:
        """Calls a collective operation. RankLostError if another process does not answer."""
        try:
            collective()
        except RuntimeError as error:
            self._ended = True
            raise RankLostError(
                "another process of this training has died, or cannot be reached: its own log "
                f"says why ({str(error).splitlines()[0][:200]}). What was done is kept; start all "
                "of them again to go on"
            ) from error


def _is_summed_where_it_is(tensor: Tensor) -> bool:
    """gloo sums in main memory, NCCL on CUDA's cards; what is on others has to come and go."""
    return tensor.device.type in ("cpu", "cuda")


def _at_once(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients that are summed together: all of them in one piece would be held twice, and a card
    that runs out of memory there leaves the others waiting."""
    some: list[Tensor] = []
    held = 0
    for gradient in gradients:
        if some and held + gradient.numel() > _SUMMED_AT_ONCE:
            yield some
            some, held = [], 0
        some.append(gradient)
        held += gradient.numel()
    if some:
        yield some


def _difference(first: Any, own: Any, path: str = "") -> str:
    """The first thing in which two requests differ."""
    if isinstance(first, Mapping) and isinstance(own, Mapping):
        for key in sorted({*first, *own}):
            found = _difference(first.get(key), own.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    if json.loads(json.dumps(own)) == first:
        return ""
    return f"{path} is {own!r} here and {first!r} there"
