"""Checkpoint and result of a run as files that are believed only when they prove themselves.

Both carry a checksum of their content, the digest of the request they belong to and the count of
their losses. ValueError says in what way a file is not what was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..artifacts.checked_file import check_content, checked_writer, is_sound
from ..artifacts.tensor_file import Writer, read_metadata, read_tensors
from ..artifacts.weight_delta import delta_from_tensors, delta_tensors
from .loss_table import LossTable
from .micro_batches import MicroBatches, micro_batches_from_json
from .step_loss import StepLoss
from .training import StageResult

_REQUEST = "attndb.request"
_MOMENT = re.compile(r"optimizer\.(\d+)\.(\w+)")
_SHAPED = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
"""Entries of an optimiser that have the shape of what they belong to, in every one we offer."""


@dataclass(frozen=True)
class Checkpoint:
    """An unfinished training."""

    tensors: Mapping[str, Tensor]
    plain: Mapping[str, Any]
    losses: list[StepLoss]


def checkpoint_writer(made: Checkpoint, request: str) -> Writer:
    """A writer of a checkpoint; `request`: the digest of what was asked for."""
    metadata = {"optimizer": json.dumps(made.plain), **_metadata(made.losses, request)}
    return checked_writer(made.tensors, metadata)


def read_checkpoint(
    path: Path, request: str, expected: Mapping[str, Tensor], trainable: Sequence[Tensor]
) -> Checkpoint:
    """A checkpoint that fits a training: `expected` is what that training would save before its
    first step, `trainable` what its optimiser updates. ValueError if it does not fit."""
    check_content(path)
    # On a GPU the tensors are only read once; on the CPU the optimiser goes on with these very
    # ones, and the file is replaced meanwhile.
    tensors, metadata = read_tensors(path, mapped=all(p.device.type != "cpu" for p in trainable))
    losses = _losses(metadata, request)
    for name, value in expected.items():
        _check_alike(name, tensors.get(name), tuple(value.shape), value.dtype)
    for name, value in tensors.items():
        _check_finite(name, value)
        moment = _MOMENT.fullmatch(name)
        if moment and int(moment[1]) >= len(trainable):
            raise ValueError(f"{name} belongs to no weight of this training")
        if moment and moment[2] in _SHAPED:
            _check_alike(name, value, tuple(trainable[int(moment[1])].shape), value.dtype)
    plain = _plain(metadata)
    return Checkpoint(tensors, plain, losses)


def checkpoint_steps(path: Path) -> int | None:
    """How many steps a checkpoint is of; None if there is none that says it."""
    try:
        return int(read_metadata(path).get("steps", ""))
    except (OSError, ValueError):
        return None


def result_writer(result: StageResult, request: str) -> Writer:
    """A writer of a finished training."""
    facts = {"facts": json.dumps(result.facts, sort_keys=True)}
    made_with = {"micro_batches": json.dumps(result.micro_batches)}
    metadata = {**_metadata(list(result.losses), request), **facts, **made_with}
    return checked_writer(result_tensors(result), metadata)


def result_tensors(result: StageResult) -> dict[str, Tensor]:
    """All tensors of a result by the names that its file has for them."""
    return {
        **_above("embedding.", result.embeddings),
        **_above("delta.", delta_tensors(result.delta)),
        **_above("module.", result.modules),
    }


def read_result(path: Path, request: str) -> StageResult:
    """A finished training of this request. ValueError if the file is not one. A file that this
    process wrote or checked before is not read a second time to be sure of it."""
    known = is_sound(path)
    if not known:
        check_content(path)
    tensors, metadata = read_tensors(path)
    losses = _losses(metadata, request)
    if not known:
        for name, value in tensors.items():
            _check_finite(name, value)
    made_with = micro_batches_from_json(metadata.get("micro_batches", "[]"))
    return result_from(tensors, losses, _facts(metadata), made_with)


def result_from(
    tensors: Mapping[str, Tensor],
    losses: Sequence[StepLoss],
    facts: Mapping[str, float],
    micro_batches: MicroBatches,
) -> StageResult:
    """The inverse of `result_tensors`. ValueError if these are not a result's."""
    embeddings = _below("embedding.", tensors)
    if not embeddings or any(vectors.ndim != 2 for vectors in embeddings.values()):
        raise ValueError("it holds no vectors")
    try:
        delta = delta_from_tensors(_below("delta.", tensors))
    except (KeyError, RuntimeError, IndexError) as error:
        raise ValueError(f"its weights are not those of a result ({error})") from error
    modules = _below("module.", tensors)
    return StageResult(
        embeddings, delta, tuple(losses), micro_batches, modules=modules, facts=dict(facts)
    )


def _facts(metadata: Mapping[str, str]) -> dict[str, float]:
    facts = json.loads(metadata.get("facts", "{}"))
    if not isinstance(facts, dict):
        raise ValueError("its numbers for the record cannot be read")
    return {str(name): float(value) for name, value in facts.items()}


def _above(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _metadata(losses: list[StepLoss], request: str) -> dict[str, str]:
    return {"losses": LossTable.of(losses).as_json(), "steps": str(len(losses)), _REQUEST: request}


def _losses(metadata: Mapping[str, str], request: str) -> list[StepLoss]:
    if metadata.get(_REQUEST) != request:
        raise ValueError("it belongs to another training")
    return LossTable.from_json(metadata.get("losses", ""), metadata.get("steps", "")).losses


def _plain(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        plain = json.loads(metadata.get("optimizer", ""))
    except RecursionError as error:
        raise ValueError("the optimiser's settings in it cannot be read") from error
    if not isinstance(plain, dict):
        raise ValueError("it holds no settings of the optimiser")
    return plain


def _check_alike(
    name: str, value: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    if value is None:
        raise ValueError(f"it lacks {name}")
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise ValueError(
            f"{name} in it is {tuple(value.shape)} {value.dtype}, and the training's is {shape} "
            f"{dtype}"
        )


def _check_finite(name: str, value: Tensor) -> None:
    if value.element_size() == 1 and value.is_floating_point():
        value = value.float()  # fp8 has no isfinite
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} in it holds values that are not finite")
