"""How many samples a training had in a forward pass, from which step on.

Another number gives the same gradient but for rounding, so a training goes on with it; its record
says that it did.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..config.stage import StageConfig

MicroBatches = tuple[tuple[int, int], ...]
"""Pairs of a step (0-based) and the samples of a forward pass from it on; empty: nobody knows."""


def with_step(sizes: MicroBatches, step: int, samples: int) -> MicroBatches:
    """What is known after a step that was made with so many."""
    return sizes if sizes and sizes[-1][1] == samples else (*sizes, (step, samples))


def asked_for(config: StageConfig) -> int:
    """What the settings ask for: never more than a batch has."""
    return min(config.micro_batch or config.batch_size, config.batch_size)


def micro_batches_from(plain: Iterable[Iterable[Any]]) -> MicroBatches:
    """The inverse of what JSON makes of them. ValueError or TypeError if it is something else."""
    return tuple((int(step), int(samples)) for step, samples in plain)


def micro_batches_from_json(text: str) -> MicroBatches:
    """The same of a file's text. ValueError, with what is wrong, if it is something else."""
    try:
        return micro_batches_from(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("its micro-batches cannot be read") from error


def record_of(sizes: MicroBatches, config: StageConfig) -> dict[str, Any]:
    """What a record says besides `micro_batch`; nothing where all steps were made with it."""
    if all(samples == asked_for(config) for _, samples in sizes):
        return {}
    told = [{"from_step": step + 1, "samples": samples} for step, samples in sizes]
    return {"micro_batches": told}
