"""Sockets and widgets that the training nodes share."""

from __future__ import annotations

from typing import get_args

from comfy_api.v0_0_2 import io

from ..attndb.config.choices import Augmentation, CategoryToken, Precision
from ..attndb.config.data import AUTO, POOL
from ..attndb.config.drawing import MAX_SEED
from ..attndb.config.stage import StageConfig
from .socket_types import Concept, Dataset, Options, Preview


def wire_sockets() -> list[io.Input]:
    """The model on the wires and the dataset."""
    return [
        io.Model.Input(
            "model",
            tooltip="The base MODEL. LoRAs and other weight patches on it are part of the base; "
            "what Load LoRA (Bypass) adds is no patch, and is refused. The MODEL is not changed: "
            "training works on a private copy.",
        ),
        io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint. It is not changed."),
        io.Vae.Input("vae", tooltip="The VAE that turns photos into latents. It is not changed."),
        Dataset.Input("dataset", tooltip="Photos and words of the subject."),
    ]


def reference_socket() -> io.Input:
    """The photo that a concept of ViCo looks at."""
    return io.Latent.Input(
        "reference",
        optional=True,
        tooltip="For a concept of ViCo alone: the latent of a photo of the subject (Load Image, "
        "VAE Encode), which pictures look at while they are drawn.",
    )


def strength_widget(tooltip: str) -> io.Input:
    """How much of a concept's weight change is drawn with."""
    return io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.01, tooltip=tooltip)


_SUMMED = " The regulariser is summed over them, as published: half the batch ties half as much."


def recipe_widgets(
    config: StageConfig, steps: str = "", *, rate: str = "", borrowed: str = ""
) -> list[io.Input]:
    """Steps, rate and batch, with published defaults. `steps`, `rate`: what else was published of
    them. `borrowed`: where rate and batch are from, if they were not published."""
    return [
        io.Int.Input(
            "steps",
            default=config.steps,
            min=0,
            max=100000,
            tooltip=f"Optimiser steps. {steps or f'Published: {config.steps}.'}",
        ),
        io.Float.Input(
            "learning_rate",
            default=config.optimizer.learning_rate,
            min=1e-8,
            max=1.0,
            step=1e-7,
            round=False,
            tooltip="Constant AdamW rate. "
            + (borrowed or rate or f"Published: {config.optimizer.learning_rate:g}."),
        ),
        io.Int.Input(
            "batch_size",
            default=config.batch_size,
            min=1,
            max=256,
            tooltip=f"Samples per step. {borrowed or f'Published: {config.batch_size}.'}"
            + (_SUMMED if config.regularization.active else ""),
        ),
    ]


def shared_widgets(resolution: int | None) -> list[io.Input]:
    """Widgets that mean the same in every stage. Without a resolution they can be left to a preset:
    resolution 0 and augmentation `preset`."""
    by_preset = resolution is None
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=False,
            tooltip="Decides every random draw of the training: the same seed on the same machine "
            "gives the same concept, on a CPU byte for byte.",
        ),
        io.Int.Input(
            "resolution",
            default=resolution or 0,
            min=0 if by_preset else 64,
            max=2048,
            step=8,
            tooltip="Side of the square training crops in pixels. 512 for SD 1.5 and 2.1-base, 768 "
            "for 2.1-768, 1024 for SDXL." + (" 0: the preset's own." if by_preset else ""),
        ),
        io.Int.Input(
            "micro_batch",
            default=0,
            min=0,
            max=64,
            tooltip="Samples per forward pass; the batch is made of several with exactly the same "
            "gradient. 0: the whole batch at once. Lower it when memory runs out: a training that "
            "was begun goes on with another one.",
            advanced=True,
        ),
        io.Combo.Input(
            "precision",
            options=list(get_args(Precision)),
            default="auto",
            tooltip="Compute precision; what is trained stays fp32 unless low_memory is on. auto: "
            "bf16 on a CUDA GPU that has it, fp32 elsewhere.",
            advanced=True,
        ),
        io.Combo.Input(
            "augmentation",
            options=[*(["preset"] if by_preset else []), *get_args(Augmentation)],
            default="preset" if by_preset else "reference",
            tooltip="reference: random rotation, flip and crop, as published. none: centre crop."
            + (" preset: the preset's own." if by_preset else ""),
            advanced=True,
        ),
        io.Boolean.Input(
            "mask_fill",
            default=True,
            tooltip="Keep the black corners that rotation makes out of the loss. The published "
            "code trains on them.",
            advanced=True,
        ),
        io.Int.Input(
            "latent_pool",
            default=AUTO,
            min=AUTO,
            max=4096,
            tooltip="Random crops kept encoded per photo and drawn again: the VAE runs before the "
            f"first step, not in every one. -1 (auto): {POOL}. 0: a new crop is encoded for every "
            "sample, as published.",
            advanced=True,
        ),
        io.Combo.Input(
            "category_tie",
            options=list(get_args(CategoryToken)),
            default="last word",
            tooltip="Which part of a category of several words or tokens the new token starts from "
            "and is tied to. first token: as the published code does.",
            advanced=True,
        ),
        io.Int.Input(
            "checkpoint_every",
            default=100,
            min=0,
            max=100000,
            tooltip="Steps between checkpoints in output/attndb. A cancelled or crashed training "
            "goes on from its checkpoint when the same graph is queued again. 0: only when it is "
            "cancelled. Large ones (64 MB or more) are fewer where they would hold the training up "
            "for more than 2% of its time, but not over ten minutes apart. Does not change the "
            "result.",
            advanced=True,
        ),
    ]


def extra_sockets() -> list[io.Input]:
    """Optional sockets of the nodes that add to the recipe."""
    return [
        Options.Input(
            "options",
            optional=True,
            tooltip="From Training Options: optimiser, schedule, EMA and other choices beyond the "
            "published recipe. Not connected: the published recipe.",
        ),
        Preview.Input(
            "preview",
            optional=True,
            tooltip="From Training Preview: a picture every n steps. Does not change the result.",
        ),
    ]


def result_sockets() -> list[io.Output]:
    """What every training gives."""
    return [
        Concept.Output(
            "concept", tooltip="What was learned so far: to the next stage, or to Save Concept."
        ),
        io.Model.Output("model", tooltip="MODEL with the concept applied, ready to sample."),
        io.Clip.Output(
            "clip", tooltip="CLIP that understands the placeholder, e.g. '<my-sloth> sloth'."
        ),
        io.Image.Output("losses", tooltip="The loss curves as a picture."),
        io.LossMap.Output(
            "loss_map", tooltip="The total loss of every step, for the stock Plot Loss Graph node."
        ),
    ]
