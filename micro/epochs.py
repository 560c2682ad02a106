"""Epochs: a network trained on pictures of the world, each seen once an epoch in a new order."""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class EpochConfig(Protocol):
    """What such a training is told."""

    @property
    def epochs(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def rate(self) -> float:
        """Peak, after the warm-up; then linear to zero."""
        ...


Network = TypeVar("Network", bound=nn.Module)


def train_in_epochs(
    name: str,
    model: Network,
    count: int,
    config: EpochConfig,
    loss_of: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    warmup: int,
) -> Network:
    """The trained model. `loss_of` takes the sorted numbers (B,) of a batch of the `count` samples,
    whose order `generator` draws. A rest that fills no batch is left out of its epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=1e-2)
    per_epoch = count // config.batch
    done, total = 0, config.epochs * per_epoch
    for epoch in range(config.epochs):
        model.train()
        order = torch.randperm(count, generator=generator)
        seen = 0.0
        for i in range(per_epoch):
            index = order[i * config.batch : (i + 1) * config.batch].sort().values
            for group in optimizer.param_groups:
                group["lr"] = config.rate * min(1, (done + 1) / warmup) * (1 - done / total) + 1e-6
            loss = loss_of(index)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done, seen = done + 1, seen + float(loss.detach())
        log.info("%s, epoch %d: loss %.4f", name, epoch + 1, seen / per_epoch)
    return model.eval()
