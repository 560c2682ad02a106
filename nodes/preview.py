"""The node that asks for pictures during a training."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.config.drawing import MAX_SEED
from .drawing import sampler_widgets
from .errors import naming_node
from .host.ui.preview import PreviewSettings
from .socket_types import Preview


class TrainingPreview(io.ComfyNode):
    """A prompt to draw every n steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBTrainingPreview",
            display_name="Training Preview",
            category="AttnDreamBooth/training",
            description="Draws a picture every n steps with the weights of that moment, through "
            "ComfyUI's own sampler. Shown on the stage node, kept in the run's "
            "previews folder. It does not change the training.",
            search_aliases=["sample during training", "training samples", "validation image"],
            inputs=[
                io.String.Input(
                    "prompt",
                    default="a photo of a {} on the beach",
                    multiline=True,
                    tooltip="What to draw, a picture for each line; {} becomes '<placeholder> "
                    "category', or the placeholder alone where a method learns it so. Lines that "
                    "begin with # are left out.",
                ),
                io.Int.Input(
                    "every",
                    default=50,
                    min=1,
                    max=100000,
                    tooltip="Training steps between pictures.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampler steps."),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1, tooltip="Guidance strength."
                ),
                io.Int.Input(
                    "width", default=512, min=64, max=4096, step=8, tooltip="Width in pixels."
                ),
                io.Int.Input(
                    "height", default=512, min=64, max=4096, step=8, tooltip="Height in pixels."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=False,
                    tooltip="Of the sampler's noise: the same for every picture.",
                ),
                io.Boolean.Input(
                    "attention_maps",
                    default=True,
                    tooltip="Also keep where the placeholder and its category look on a training "
                    "photo, as pictures and curves, in the run's attention folder.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    optional=True,  # prompts that were saved before it was there run as they did
                    tooltip="What the pictures should not show: the negative prompt of all lines, "
                    "with {} as there.",
                    advanced=True,
                ),
                *sampler_widgets(optional=True),
            ],
            outputs=[Preview.Output("preview", tooltip="Connect to one stage or several.")],
        )

    @classmethod
    @naming_node
    def execute(cls, **settings: Any) -> io.NodeOutput:
        return io.NodeOutput(PreviewSettings(**settings))


NODES: list[type[io.ComfyNode]] = [TrainingPreview]
