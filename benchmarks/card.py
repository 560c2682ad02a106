"""Rows of the benchmark of a card: steps of every stage and mode, and whole recipes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attndb.config.data import DataConfig
from ..attndb.config.presets import PRESETS
from ..attndb.config.stage import StageConfig
from ..attndb.data.dataset import ConceptDataset
from ..attndb.data.latent_cache import LatentCache
from ..attndb.data.latent_pool import PoolSettings
from ..attndb.data.photo_batches import PhotoBatches
from ..attndb.data.photo_file import photos_from_arrays
from ..attndb.training.out_of_memory import is_out_of_memory
from ..devkit.training import train_stage, training_of
from .estimates import estimator
from .measure import PeakMemory, collect, floating_point_operations, synchronize, time_in_turn
from .ours import initial_vector, our_backend, our_batch, stage_config
from .reference_step import PublishedModel, PublishedStep
from .sizes import Size, Weights, autoencoder_of, inputs_of, weights_of


@dataclass(frozen=True)
class Mode:
    """One way to run our step."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of StageConfig."""
    channels_last: bool = False
    """The U-Net's convolutions in the layout that tensor cores read."""
    cuda_graphs: bool = False
    """Compiled blocks are recorded once and replayed as a whole."""


MODES: dict[str, Mode] = {
    "default": Mode(),
    "channels last": Mode(channels_last=True),
    "compiled": Mode({"compile": True}),
    "compiled, channels last": Mode({"compile": True}, channels_last=True),
    "compiled, CUDA graphs": Mode({"compile": True}, cuda_graphs=True),
    "light checkpointing": Mode({"gradient_checkpointing": "light"}),
    "full checkpointing": Mode({"gradient_checkpointing": "full"}),
    "low memory": Mode({"low_memory": True}),
    "low memory, light": Mode({"low_memory": True, "gradient_checkpointing": "light"}),
    "low memory, micro-batch 2": Mode({"low_memory": True, "micro_batch": 2}),
    "low memory, LoRA 16": Mode({"low_memory": True, "micro_batch": 2, "lora_rank": 16}),
}
WARMUP = 3
AT_ONCE = 8
"""Crops that fill the pool in one call, as on a card with room for them."""


def rows(
    size: Size,
    device: torch.device,
    steps: int,
    ceilings: Mapping[str, float],
    stages: Sequence[int] = (1, 2, 3),
    modes: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Time, memory and FLOP/s of the published step and of ours in each mode, by stage.

    `modes`: names of MODES; all of them if empty.
    """
    weights = weights_of(size)
    for stage in stages:
        times: dict[str, float | None] = {}
        for precision in ("fp32", "bf16"):
            row = _row("published", stage, precision)
            row.update(
                _attempt(partial(_published, size, weights, stage, precision, device), steps)
            )
            times[precision] = row["time_s"]
            yield _completed(row, ceilings)
        for name, mode in MODES.items():
            if (modes and name not in modes) or (mode.settings.get("lora_rank") and stage == 1):
                continue
            for precision in ("fp32", "bf16") if name == "default" else ("bf16",):
                row = _row(f"ours, {name}", stage, precision)
                config = stage_config(stage, size, precision, **mode.settings)
                with _graphs() if mode.cuda_graphs else nullcontext():
                    make = partial(_ours, size, weights, config, device, mode)
                    row.update(_attempt(make, steps))
                for theirs, taken in times.items():
                    row[f"ratio_published_{theirs}"] = (
                        taken / row["time_s"] if taken and row["time_s"] else None
                    )
                yield _completed(row, ceilings)
        plain = stage_config(stage, size, "bf16", regularized=False)
        row = _row("ours, not regularized", stage, "bf16")
        row.update(_attempt(partial(_ours, size, weights, plain, device, Mode()), steps))
        yield _completed(row, ceilings)


def _row(what: str, stage: int, precision: str) -> dict[str, Any]:
    return {"what": what, "stage": stage, "precision": precision}


def _completed(row: dict[str, Any], ceilings: Mapping[str, float]) -> dict[str, Any]:
    if row["time_s"]:
        row["tflops"] = row["tflop_per_step"] / row["time_s"]
        row["share_of_ceiling"] = row["tflops"] * 1e12 / ceilings[row["precision"]]
    return row


@dataclass(frozen=True)
class _Made:
    """A step, how to end, where it runs, and what memory it was estimated to take."""

    step: Callable[[], object]
    end: Callable[[], None]
    device: torch.device
    estimated_mb: float | None = None


def _attempt(make: Callable[[], _Made], steps: int) -> dict[str, Any]:
    """Median time, the first step's (compiling and all), peak and estimated MB of what `make`
    makes; None and a note if it does not fit, or fails."""
    made = None
    try:
        made = make()
        with PeakMemory(made.device) as peak:
            cold = time_in_turn({"step": made.step}, 1, made.device)["step"].wall
            timing = time_in_turn({"step": made.step}, steps, made.device, WARMUP)["step"]
        operations = floating_point_operations(made.step)
        made.end()
        found: dict[str, Any] = {
            "time_s": timing.wall,
            "first_step_s": cold,
            "memory_mb": peak.megabytes,
            "estimated_mb": made.estimated_mb,
            "tflop_per_step": operations / 1e12,
        }
    except Exception as error:  # a mode that fails (a compiler is missing) leaves others their turn
        lost = isinstance(error, RuntimeError) and is_out_of_memory(error)
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
        found = dict.fromkeys(("time_s", "first_step_s", "memory_mb"))
        found["estimated_mb"] = made and made.estimated_mb
        found["note"] = "out of memory" if lost else f"failed ({said})"
    made = None  # what it holds is on the card
    collect(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return found


def _published(
    size: Size, weights: Weights, stage: int, precision: str, device: torch.device
) -> _Made:
    model = PublishedModel(size, weights, device)
    vector = torch.zeros(size.clip["hidden_size"])
    step = PublishedStep(model, stage, vector, autocast=precision == "bf16")
    inputs = inputs_of(size, 0)
    return _Made(lambda: step.step(inputs), lambda: None, device)


def _ours(
    size: Size, weights: Weights, config: StageConfig, device: torch.device, mode: Mode
) -> _Made:
    backend = our_backend(size, weights, device)
    if mode.channels_last:
        # torch takes it and leaves it out of its types
        backend.unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    estimated = estimator(size, backend)(config).total / 1e6
    training = training_of(backend, config, initial_vector(backend))
    batch = our_batch(inputs_of(size, 0))
    entered = ExitStack()
    entered.enter_context(training)
    return _Made(lambda: training.step(0, batch).read(), entered.close, device, estimated)


def _graphs() -> AbstractContextManager[object]:
    import torch._inductor.config  # takes a second

    return torch._inductor.config.patch({"triton.cudagraphs": True})


def recipes(
    size: Size,
    device: torch.device,
    quick: bool = False,
    names: Sequence[str] = ("paper", "fast"),
) -> Iterator[dict[str, Any]]:
    """Seconds of whole trainings by preset, photos to weights: all three stages, augmentation, VAE
    and text encoder included, model loading not. `quick`: two steps a stage."""
    for name, preset in PRESETS.items():
        if name in names:
            row: dict[str, Any] = {"recipe": name, "latent_pool": DataConfig().crops}
            try:
                seconds = _recipe(preset(), size, device, quick)
                row |= {"stage_seconds": seconds, "seconds": sum(seconds)}
            except ValueError as error:  # smaller parts did not help: the next one may fit
                row["note"] = str(error).partition(".")[0]
            collect(device)
            yield row


def _recipe(
    stages: Sequence[StageConfig], size: Size, device: torch.device, quick: bool
) -> list[float]:
    """Seconds of each stage of a training."""
    backend = our_backend(size, weights_of(size), device)
    encode = _encoder(size, device)
    vectors, seconds = initial_vector(backend), []
    prompt = our_batch(inputs_of(size.at(size.resolution, 1), 0)).prompts[0]
    with tempfile.TemporaryDirectory() as kept:  # later stages find the first one's latents
        pool = PoolSettings(at_once=AT_ONCE, cache=LatentCache(Path(kept), {}))
        for config in stages:
            data = DataConfig(resolution=size.resolution)
            config = config.with_(data=data, precision="bf16")
            if quick:
                config = config.with_(steps=2, batch_size=2)
            synchronize(device)
            start = time.perf_counter()
            timesteps = backend.diffusion.timesteps
            batches = PhotoBatches(_dataset(), (prompt,), config, timesteps, encode, (), pool)
            batches.fill()
            vectors = train_stage(backend, batches, config, vectors).vectors
            synchronize(device)
            seconds.append(time.perf_counter() - start)
    return seconds


def _dataset() -> ConceptDataset:
    """Five made-up photos of 640 x 512."""
    pictures = np.random.default_rng(0).random((5, 40, 32, 3), dtype=np.float32)
    enlarged = [p.repeat(16, axis=0).repeat(16, axis=1) for p in pictures]
    return ConceptDataset(photos=photos_from_arrays(enlarged), category="doll", placeholder="<v>")


def _encoder(size: Size, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Pictures (B, H, W, 3) in 0..1 to scaled latents, in bf16 as the host encodes on a card."""
    autoencoder = autoencoder_of(size).to(device).requires_grad_(False).eval()

    def encode(pixels: Tensor) -> Tensor:
        pictures = 2.0 * pixels.to(device).movedim(-1, 1).float() - 1.0
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            encoded = autoencoder.encode(pictures)
        if isinstance(encoded, Tensor):
            return encoded.float()
        return encoded.latent_dist.sample().float() * autoencoder.config.scaling_factor

    return encode
