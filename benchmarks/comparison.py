"""Ours and the published step side by side: rows of the benchmark for one size of model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..attndb.config.choices import Precision
from ..attndb.models import precision as bf16
from ..devkit.training import training_of
from .measure import PeakMemory, Timing, collect, describe, floating_point_operations, time_in_turn
from .ours import initial_vector, our_backend, our_batch, stage_config
from .reference_step import PublishedModel, PublishedStep
from .sizes import Size, inputs_of, weights_of

CPU = torch.device("cpu")


def precisions() -> tuple[Precision, ...]:
    """What is timed on this CPU: bf16 only where it has the products."""
    return ("fp32", "bf16") if bf16.has_bf16_products(CPU) else ("fp32",)


def left_out() -> str:
    """What a table does not hold on this CPU, and why; empty where it holds everything."""
    if "bf16" in precisions():
        return ""
    return "no bf16 rows: this CPU has no bf16 products, so they would take ten times as long"


@dataclass(frozen=True)
class Counted(Timing):
    """A step timed by itself, and its floating point operations."""

    flop: int


def times_of(size: Size, stages: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """A row per stage and precision, without memory. All steps are timed in turn, on the CPU."""
    weights, inputs = weights_of(size), inputs_of(size, 0)
    # one each: a stage keeps its U-Net's weights in its own precision
    backends = {precision: our_backend(size, weights, CPU) for precision in precisions()}
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
            for precision in precisions():
                for name, regularized in ((precision, True), (f"{precision}, free", False)):
                    config = stage_config(stage, size, precision, regularized)
                    backend = backends[precision]
                    ours = entered.enter_context(training_of(backend, config, vector))
                    steps[name] = lambda ours=ours: ours.step(0, batch).read()
            for name, step in steps.items():
                if name != "published":  # it has no first time, and counting warms it up
                    step()
            counts = {
                side: floating_point_operations(steps[side])
                for side in ("published", *precisions())
            }
            timed = {**encoding, **time_in_turn(steps, rounds, CPU)}
        rows += [row(size, stage, precision, timed, counts) for precision in precisions()]
        del theirs, ours, steps
        collect(CPU)
    return rows


def row(
    size: Size, stage: int, precision: str, timed: Mapping[str, Timing], counts: dict[str, int]
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


def times_of_ours(size: Size, stages: Sequence[int]) -> dict[str, Counted]:
    """Our step by `stage/precision`, one after the other in this process."""
    backend = our_backend(size, weights_of(size), CPU)
    vector, batch = initial_vector(backend), our_batch(inputs_of(size, 0))
    found = {}
    for stage in stages:
        for precision in precisions():
            with training_of(backend, stage_config(stage, size, precision), vector) as ours:
                found[f"{stage}/{precision}"] = _counted(
                    lambda ours=ours: ours.step(0, batch).read()
                )
            del ours
            collect(CPU)
    return found


def times_of_published(size: Size, stages: Sequence[int]) -> dict[str, Counted]:
    """The published step by `stage/precision` (fp32 alone) in this process, and `encoding`."""
    published, inputs = PublishedModel(size, weights_of(size), CPU), inputs_of(size, 0)
    found = {"encoding": _counted(partial(published.encode, inputs.pixels))}
    for stage in stages:
        theirs = PublishedStep(published, stage, torch.zeros(size.clip["hidden_size"]))
        found[f"{stage}/fp32"] = _counted(partial(theirs.step, inputs))
        del theirs
        collect(CPU)
    return found


def _counted(step: Callable[[], object]) -> Counted:
    step()  # the first time is like no other
    flop = floating_point_operations(step)
    timing = time_in_turn({"step": step}, rounds=2, device=CPU)["step"]
    return Counted(timing.wall, timing.processor, flop)


def row_apart(
    size: Size, stage: int, precision: str, ours: dict[str, Counted], theirs: dict[str, Counted]
) -> dict[str, Any]:
    """As `row`, of sides that were timed each in a process of its own."""
    timed: dict[str, Counted] = {
        precision: ours[f"{stage}/{precision}"],
        "published": theirs[f"{stage}/fp32"],
        "encoding": theirs["encoding"],
    }
    counts = {name: counted.flop for name, counted in timed.items()}
    return row(size, stage, precision, timed, counts)


def memory_of_ours(size: Size, stages: Sequence[int], baseline: int) -> dict[str, float]:
    """Peak MB of our training by `stage/precision`, in this process."""
    backend = our_backend(size, weights_of(size), CPU)
    vector, batch = initial_vector(backend), our_batch(inputs_of(size, 0))
    found = {}
    for stage in stages:
        for precision in precisions():
            collect(CPU)
            config = stage_config(stage, size, precision)
            with PeakMemory(CPU, baseline) as peak, training_of(backend, config, vector) as ours:
                _as_after_a_step(ours.optimizer, ours.trainable)
                ours.step(0, batch).read()
            found[f"{stage}/{precision}"] = peak.megabytes
            del ours
    return found


def memory_of_published(size: Size, stages: Sequence[int], baseline: int) -> dict[str, float]:
    """Peak MB of the published training by `stage/precision` (fp32 alone), in this process."""
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
        found[f"{stage}/fp32"] = peak.megabytes
        del theirs
    return found


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
