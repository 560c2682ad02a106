"""The node of the choices that the published recipe does not make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..attndb.config.choices import (
    Checkpointing,
    LowMemory,
    OptimizerName,
    Schedule,
    require_choice,
)
from ..attndb.config.data import DataConfig
from ..attndb.config.optimizer import OptimizerConfig
from ..attndb.config.stage import StageConfig
from .errors import naming_node
from .socket_types import Options
from .training_options import TrainingOptions


def _augmentation_widgets() -> list[io.Input]:
    """The parts of the augmentation. Optional: prompts that were saved before them run as then."""
    return [
        io.Float.Input(
            "max_angle",
            default=DataConfig.max_angle,
            min=0.0,
            max=180.0,
            step=1.0,
            optional=True,
            tooltip="With augmentation reference: three of four crops are turned by up to this, "
            "degrees either way. 0: none. Published: 45.",
            advanced=True,
        ),
        io.Boolean.Input(
            "flip",
            default=DataConfig.flip,
            optional=True,
            tooltip="With augmentation reference: one of four crops is mirrored left to right, as "
            "published. Off for a subject with writing, or with two sides that differ.",
            advanced=True,
        ),
        io.Boolean.Input(
            "random_crop",
            default=DataConfig.random_crop,
            optional=True,
            tooltip="With augmentation reference: the square is cut anywhere along the longer "
            "side, as published. Off: from the middle.",
            advanced=True,
        ),
        io.Boolean.Input(
            "keep_subject",
            default=DataConfig.keep_subject,
            optional=True,
            tooltip="Cut where the subject is whole, on photos that have a mask; also with "
            "augmentation none. Off, as published: a crop may cut the subject.",
            advanced=True,
        ),
    ]


def _held_to_the_base_widgets() -> list[io.Input]:
    """What keeps the category without class images. Optional as those above."""
    return [
        io.Float.Input(
            "prior_prediction",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.1,
            optional=True,
            tooltip="Prior preservation without class images: in stages 2 and 3 the model is also "
            "asked for the plain category on the training's noisy photos, and has to answer as the "
            "base model does. What this counts next to the denoising loss; 1 is usual. A step "
            "takes about twice as long. 0: off, as published.",
            advanced=True,
        ),
        io.Float.Input(
            "weight_anchor",
            default=0.0,
            min=0.0,
            max=1e6,
            step=1.0,
            round=False,
            optional=True,
            tooltip="Pulls the trained weights of stages 2 and 3 towards the base model's, "
            "so that the category stays what it was, without class images. Per unit of "
            "squared change; published for cross-attention: 175 (SD 1.5), 50 (SDXL); 0.01 to 0.1 "
            "on the toy model. Keeps a copy of the trained weights. 0: off, as published.",
            advanced=True,
        ),
    ]


def _aspect_buckets() -> io.Input:
    return io.Boolean.Input(
        "aspect_buckets",
        default=DataConfig.aspect_buckets,
        optional=True,
        tooltip="Crop every photo in the shape that is nearest to its own, of about the same area, "
        "instead of a square: little of a long photo is cut away. Off, as published: squares.",
        advanced=True,
    )


def _kept_widgets() -> list[io.Input]:
    """What a training keeps besides its result. Optional as those above."""
    return [
        io.Boolean.Input(
            "keep_state",
            default=False,
            optional=True,
            tooltip="Keep weights and optimiser of the finished training in its run folder (three "
            "times the size of what is trained), so that it goes on from there when steps is "
            "raised: with a constant rate, to the same bytes as one long training.",
            advanced=True,
        ),
        io.Int.Input(
            "checkpoint_concepts",
            default=0,
            min=0,
            max=100000,
            optional=True,
            tooltip="Steps between concepts that are kept while it trains, in models/embeddings "
            "and models/loras under attndb/<run>/step-00050: Load Kept Concepts gives them to "
            "Evaluate Concept, which says which was best. 0: none. Does not change the result.",
            advanced=True,
        ),
        io.Int.Input(
            "kept_concepts",
            default=5,
            min=1,
            max=1000,
            optional=True,
            tooltip="How many of these concepts stay for each stage: the newest.",
            advanced=True,
        ),
    ]


class TrainingOptionsNode(io.ComfyNode):
    """Optimiser, schedule and loss options."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBTrainingOptions",
            display_name="Training Options",
            category="AttnDreamBooth/training",
            description="Choices beyond the published recipe: optimiser, schedule, loss, memory, "
            "and the parts of the augmentation. Every default leaves the recipe "
            "as it is; connect to any stage.",
            search_aliases=[
                *("lora rank", "optimizer", "learning rate schedule", "low vram", "ema"),
                *("augmentation", "flip", "crop", "aspect ratio", "buckets"),
                *("weight anchor", "prior preservation", "no class images"),
            ],
            inputs=[
                io.Combo.Input(
                    "optimizer",
                    options=list(get_args(OptimizerName)),
                    default="AdamW",
                    tooltip="Published: AdamW. 8-bit needs bitsandbytes, Prodigy needs "
                    "prodigyopt and a learning rate of 1 (Train Concept gives it that), "
                    "schedule-free needs schedulefree.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(get_args(Schedule)),
                    default="constant",
                    tooltip="Course of the learning rate after the warm-up. constant, as "
                    "published, leaves a preset its own (micro-turbo).",
                ),
                io.Int.Input(
                    "warmup_steps",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="Steps over which the learning rate rises from 0. 0, as published, "
                    "leaves a preset its own.",
                ),
                io.Float.Input(
                    "clip_norm",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    tooltip="Largest norm of the gradient; 0 does not clip, as published.",
                ),
                io.Float.Input(
                    "ema_decay",
                    default=0.0,
                    min=0.0,
                    max=0.99999,
                    step=0.001,
                    round=False,
                    tooltip="Decay of a moving average of what is trained, which becomes the "
                    "result (0.99 suits a few hundred steps). 0: the last weights, as published.",
                ),
                io.Float.Input(
                    "min_snr_gamma",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Min-SNR weighting of the denoising loss; 5 is usual, 0 is off.",
                ),
                io.Float.Input(
                    "offset_noise",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of noise that is constant over each latent channel, for "
                    "very dark or bright subjects; 0.05 to 0.1 is usual, 0 off as published.",
                ),
                io.Int.Input(
                    "lora_rank",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Rank of a LoRA in stages 2 and 3, for small GPUs and small files; 4 "
                    "to 64 is usual, with a learning rate of about 1e-4 in the stage nodes, with a "
                    "preset that has lora in its name in Train Concept. 0: whole weights, as "
                    "published, or the preset's own.",
                ),
                io.Combo.Input(
                    "gradient_checkpointing",
                    options=list(get_args(Checkpointing)),
                    default="auto",
                    tooltip="Compute activations again instead of keeping them: exactly the same "
                    "result with less memory. light: norms and activation functions, little time; "
                    "full: whole blocks, about a third more time. auto: as much as the free memory "
                    "asks for. A training that was begun goes on with another choice.",
                ),
                io.Combo.Input(
                    "low_memory",
                    options=list(get_args(LowMemory)),
                    default="auto",
                    tooltip="For small GPUs: the U-Net in bf16, activations recomputed, and in "
                    "stage 3 every weight updated the moment its gradient is there. A third of the "
                    "memory and some more time; the result differs a little, as bf16 does, "
                    "so a training begins anew with another choice. auto: "
                    "on where a stage would not fit into the GPU without it, and said then; off on "
                    "a CPU.",
                ),
                io.Boolean.Input(
                    "compile",
                    default=False,
                    tooltip="Compile the U-Net's blocks (torch.compile): faster steps after a "
                    "minute or two of compiling. Needs Triton on a GPU, a C++ compiler on a CPU.",
                    advanced=True,
                ),
                *_augmentation_widgets(),
                *_held_to_the_base_widgets(),
                _aspect_buckets(),
                *_kept_widgets(),
            ],
            outputs=[Options.Output("options", tooltip="Connect to one stage or several.")],
        )

    @classmethod
    def validate_inputs(cls, low_memory: object) -> bool | str:
        """Workflows from before `auto` hold true or false; None is a link."""
        known = low_memory is None or isinstance(low_memory, bool)
        known = known or low_memory in get_args(LowMemory)
        return known or f"low_memory = {low_memory!r}: choose {', '.join(get_args(LowMemory))}"

    @classmethod
    @naming_node
    def execute(
        cls,
        optimizer: str,
        schedule: str,
        warmup_steps: int,
        clip_norm: float,
        low_memory: str | bool,
        keep_state: bool = False,
        checkpoint_concepts: int = 0,
        kept_concepts: int = 5,
        **stage: Any,
    ) -> io.NodeOutput:
        if isinstance(low_memory, bool):
            low_memory = "on" if low_memory else "auto"
        require_choice("low_memory", low_memory, get_args(LowMemory))
        chosen = {
            "name": optimizer,
            "schedule": schedule,
            "warmup_steps": warmup_steps,
            "clip_norm": clip_norm,
        }
        stage["low_memory"] = low_memory == "on"
        fields = [f.name for f in dataclasses.fields(DataConfig)]
        data = {name: stage.pop(name) for name in fields if name in stage}
        options = TrainingOptions(
            optimizer=_not_published(chosen, OptimizerConfig),
            stage=_not_published(stage, StageConfig),
            data=data,
            low_memory_if_needed=low_memory == "auto",
            keep_state=keep_state,
            concepts_every=checkpoint_concepts,
            concepts_kept=kept_concepts,
        )
        return io.NodeOutput(options)


def _not_published(chosen: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """What is not the default of a dataclass's field: the rest a preset has its own of."""
    published = {f.name: f.default for f in dataclasses.fields(kind)}
    return {name: value for name, value in chosen.items() if value != published[name]}


NODES: list[type[io.ComfyNode]] = [TrainingOptionsNode]
