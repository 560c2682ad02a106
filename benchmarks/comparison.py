"""Ours and the published step side by side: rows of the benchmark for one size of model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..attndb.config import Precision
from ..attndb.stage import StageTraining
from .measure import (
    PeakMemory,
    Timing,
    collect,
    describe,
    floating_point_operations,
    time_in_turn,
)
from .ours import initial_vector, our_backend, our_batch, stage_config
from .published import PublishedModel, PublishedStep
from .sizes import Size, inputs_of, weights_of

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Alone:
    """What a process that runs one side by itself finds out about a step."""

    megabytes: float
    """Peak memory of a step."""
    flop: int = 0
    timing: Timing | None = None
    """Where it was asked for."""


def times_of(size: Size, stages: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """A row per stage and precision, without memory. All steps are timed in turn, on the CPU."""
    weights, inputs = weights_of(size), inputs_of(size, 0)
    # one each: a stage keeps its U-Net's weights in its own precision
    backends = {precision: our_backend(size, weights, CPU) for precision in PRECISIONS}
    published = PublishedModel(size, weights, CPU)
    del weights
    vector, batch = initial_vector(backends["fp32"]), our_batch(inputs)
    encoding = time_in_turn({"encoding": lambda: published.encode(inputs.pixels)}, rounds, CPU)
    rows = []
    for stage in stages:
        theirs = PublishedStep(published, stage, vector[0])
        steps: dict[str, Callable[[], object]] = {
            "published": lambda theirs=theirs: theirs.step(inputs)
        }
        with ExitStack() as entered:
            for precision in PRECISIONS:
                for name, regularized in ((precision, True), (f"{precision}, free", False)):
                    config = stage_config(stage, size, precision, regularized)
                    backend = backends[precision]
                    ours = entered.enter_context(StageTraining(backend, config, vector))
                    steps[name] = lambda ours=ours: ours.step(0, batch)
            for name, step in steps.items():
                if name != "published":  # it has no first time, and counting warms it up
                    step()
            counts = {
                side: floating_point_operations(steps[side]) for side in ("published", *PRECISIONS)
            }
            timed = {**encoding, **time_in_turn(steps, rounds, CPU)}
        rows += [row(size, stage, precision, timed, counts) for precision in PRECISIONS]
        del theirs, ours, steps
        collect(CPU)
    return rows


def row(
    size: Size, stage: int, precision: str, timed: dict[str, Timing], counts: dict[str, int]
) -> dict[str, Any]:
    """Ours (latents from a pool) at a precision against the published fp32 step. `counts`: floating
    point operations of a step."""
    ours, theirs, encoding = timed[precision], timed["published"], timed["encoding"]
    free = timed.get(f"{precision}, free")
    return {
        "size": size.name,
        "resolution": size.resolution,
        "batch": size.batch,
        "stage": stage,
        "precision": precision,
        "time_ours_s": ours.wall,
        "time_published_s": theirs.wall,
        "time_ratio": theirs.wall / ours.wall,
        "processor_ours_s": ours.processor,
        "processor_published_s": theirs.processor,
        "processor_ratio": theirs.processor / ours.processor,
        "encoding_published_s": encoding.wall,
        "processor_ratio_encoding_every_step": theirs.processor
        / (ours.processor + encoding.processor),
        "processor_ratio_without_encoding": (theirs.processor - encoding.processor)
        / ours.processor,
        "gflop_ours": counts[precision] / 1e9,
        "gflop_published": counts["published"] / 1e9,
        "gflops_ours": counts[precision] / ours.wall / 1e9,
        "regularization_cost": ours.processor / free.processor - 1.0 if free else None,
        "device": describe(CPU),
    }


def ours_alone(size: Size, stages: Sequence[int], baseline: int, timed: bool) -> dict[str, Alone]:
    """Our training by `stage/precision`, one after the other in this process."""
    backend = our_backend(size, weights_of(size), CPU)
    vector, batch = initial_vector(backend), our_batch(inputs_of(size, 0))
    found = {}
    for stage in stages:
        for precision in PRECISIONS:
            collect(CPU)
            config = stage_config(stage, size, precision)
            with ExitStack() as entered:
                with PeakMemory(CPU, baseline) as peak:
                    ours = entered.enter_context(StageTraining(backend, config, vector))
                    _as_after_a_step(ours.optimizer, ours.trainable)
                    ours.step(0, batch)
                step = partial(ours.step, 0, batch) if timed else None
                found[f"{stage}/{precision}"] = _alone(peak, step)
            del ours, step
    return found


def published_alone(
    size: Size, stages: Sequence[int], baseline: int, timed: bool
) -> dict[str, Alone]:
    """The published training by `stage/precision` (fp32 alone) in this process, and `encoding`."""
    published = PublishedModel(size, weights_of(size), CPU)
    inputs = inputs_of(size, 0)
    vector = torch.zeros(size.clip["hidden_size"])
    found = {}
    for stage in stages:
        published.text.zero_grad()
        published.unet.zero_grad()
        collect(CPU)
        theirs = PublishedStep(published, stage, vector)
        with PeakMemory(CPU, baseline) as peak:
            _as_after_a_step(theirs.optimizer, theirs.trainable, theirs.unused)
            theirs.step(inputs)
        step = partial(theirs.step, inputs) if timed else None
        found[f"{stage}/fp32"] = _alone(peak, step)
        del theirs, step
    with PeakMemory(CPU, baseline) as peak:
        published.encode(inputs.pixels)
    encode = partial(published.encode, inputs.pixels) if timed else None
    found["encoding"] = _alone(peak, encode)
    return found


def _alone(peak: PeakMemory, step: Callable[[], object] | None) -> Alone:
    """`step`: where it is to be timed and counted as well; it has run before."""
    if step is None:
        return Alone(peak.megabytes)
    count = floating_point_operations(step)
    return Alone(peak.megabytes, count, time_in_turn({"": step}, rounds=2, device=CPU)[""])


def row_of_alone(
    size: Size, stage: int, precision: str, ours: dict[str, Alone], theirs: dict[str, Alone]
) -> dict[str, Any]:
    """As `row`, of sides that were timed each in a process of its own, without memory."""
    sides = {
        precision: ours[f"{stage}/{precision}"],
        "published": theirs[f"{stage}/fp32"],
        "encoding": theirs["encoding"],
    }
    timed = {name: side.timing for name, side in sides.items() if side.timing}
    return row(size, stage, precision, timed, {name: side.flop for name, side in sides.items()})


def _as_after_a_step(
    optimizer: torch.optim.Optimizer,
    trained: Iterable[Tensor],
    unused: Iterable[Tensor] = (),
) -> None:
    """Makes what the first step leaves behind and later ones find: the optimiser's state, and
    gradients of `unused` parameters, which nobody clears."""
    for parameter in (*trained, *unused):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
