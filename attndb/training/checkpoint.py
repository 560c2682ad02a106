"""The state of a training as tensors and plain data, and back: what a checkpoint file holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..methods.method import ParameterGroup
from .ema import EMA

Schedule = torch.optim.lr_scheduler.LRScheduler


def trained_tensors(groups: Sequence[ParameterGroup]) -> dict[str, Tensor]:
    """Everything that is trained, by the name that a checkpoint has for it."""
    return {
        f"trained.{group.name}.{name}": value
        for group in groups
        for name, value in group.parameters.items()
    }


def state_of(
    groups: Sequence[ParameterGroup],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule | None,
    ema: EMA | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and plain data for JSON."""
    tensors = {name: value.detach() for name, value in trained_tensors(groups).items()}
    state = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in _entries(entries):
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value.detach()
            else:
                plain.setdefault(str(index), {})[key] = value
    if ema is not None:
        tensors.update({f"ema.{index}": value for index, value in enumerate(ema.values)})
    return tensors, {
        "state": plain,
        "param_groups": state["param_groups"],
        "schedule": None if schedule is None else schedule.state_dict(),
    }


def _entries(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What an optimiser keeps of one parameter. bitsandbytes hands its tensors out in a dict within
    (since it knows FSDP), and takes them back without it."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from value.items()
        else:
            yield key, value


def restore(
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
    groups: Sequence[ParameterGroup],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule | None,
    ema: EMA | None,
) -> None:
    """Puts back what `state_of` gave. ValueError if it is of another training."""
    named = trained_tensors(groups)
    if {key for key in tensors if key.startswith("trained.")} != set(named):
        raise ValueError("the checkpoint is of another stage or model")
    with torch.no_grad():
        for name, value in named.items():
            value.copy_(tensors[name])
    state: dict[int, dict[str, Any]] = {
        int(index): dict(entries) for index, entries in plain["state"].items()
    }
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            # A step counter stays on the CPU where the optimiser is not fused; it may be a page of
            # the file, which Windows would not let go for the next checkpoint.
            state.setdefault(int(index), {})[name] = value if value.ndim else value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
    if schedule is not None:
        schedule.load_state_dict(plain["schedule"])
    if ema is not None:
        for index, value in enumerate(ema.values):
            value.copy_(tensors[f"ema.{index}"])
