"""Nodes that set a concept on a part of the prompts, or of the picture."""

from __future__ import annotations

import re
from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.data.placeholder import placeholder_pattern
from .concept import CATEGORY, say_layer
from .errors import naming_node
from .host.capture.prompt import encode
from .host.model.concept_hook import concept_hooks
from .host.model.region import Canvas, Region, placed
from .host.model.text import corrected_clip
from .socket_types import Concept
from .sockets import strength_widget


class CreateHookConcept(io.ComfyNode):
    """A concept's weights for the prompts that the hook is set on alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBCreateHookConcept",
            display_name="Create Hook Concept",
            category=CATEGORY,
            description="A trained concept as a hook for the stock Cond Set Props nodes: the "
            "MODEL has its weights for these prompts alone. Two subjects in one picture, each in a "
            "mask of its own, do not change each other. CLIP learns the words from Apply Concept.",
            search_aliases=[
                "hook lora",
                "two subjects",
                "several concepts",
                "regional lora",
                "mask lora",
                "area",
                "concept bleeding",
            ],
            inputs=[
                Concept.Input("concept", tooltip="A concept from a stage or from Load Concept."),
                strength_widget(
                    "How much of the U-Net's change is added where the hook is set. 0: no "
                    "hook, 1: the concept as trained."
                ),
                io.Hooks.Input(
                    "prev_hooks",
                    optional=True,
                    tooltip="Hooks that are set on the same prompts, e.g. of a stock LoRA.",
                ),
            ],
            outputs=[
                io.Hooks.Output(
                    "hooks",
                    tooltip="For Cond Set Props, or Cond Pair Set Props with a mask; the MODEL "
                    "that samples is the one without the concept.",
                )
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls, concept: TrainedConcept, strength: float, prev_hooks: Any = None
    ) -> io.NodeOutput:
        return io.NodeOutput(concept_hooks(concept, strength, prev_hooks))


class ConceptInRegion(io.ComfyNode):
    """A subject in its place in the picture, by one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBConceptInRegion",
            display_name="Concept in Region",
            category=CATEGORY,
            description="Several subjects in one picture, each in a region of its own with its own "
            "prompt and weights, so that none takes over another's looks: one node for each "
            "subject, in a row. KSampler gets the plain MODEL.",
            search_aliases=[
                "two subjects",
                "several concepts",
                "regional prompt",
                "regional lora",
                "concept bleeding",
                "area",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The checkpoint's CLIP. It need not know the word."),
                Concept.Input("concept", tooltip="A concept from a stage or from Load Concept."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="a photo of a {} on the beach",
                    tooltip="What the region shows; {} is the subject, as in training. Say the "
                    "surroundings in every region alike.",
                ),
                *(
                    io.Float.Input(
                        name,
                        default=default,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip=f"{what}, as a share of the picture's {of}.",
                    )
                    for name, default, what, of in (
                        ("left", 0.0, "Where the region begins", "width"),
                        ("top", 0.0, "Where it begins", "height"),
                        ("width", 0.5, "How wide it is", "width"),
                        ("height", 1.0, "How high it is", "height"),
                    )
                ),
                strength_widget("How much of the concept's weight change is in its region."),
                io.Combo.Input(
                    "canvas",
                    options=list(get_args(Canvas)),
                    default="region",
                    tooltip="region: the prompt is drawn in a picture of the region's size, so the "
                    "whole subject is in it. picture: in the whole one, of which the region is "
                    "kept; nearer to one scene, and a subject may be cut or missing.",
                ),
                io.Float.Input(
                    "feather",
                    default=0.12,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How far the region fades into its neighbours, as a share of the "
                    "picture. 0: a hard edge.",
                    advanced=True,
                ),
                io.String.Input(
                    "negative_text",
                    multiline=True,
                    default="",
                    tooltip="The region's negative prompt.",
                    advanced=True,
                ),
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="Of the regions before, or of all else."
                ),
                io.Conditioning.Input("negative", optional=True, tooltip="Theirs."),
                io.Mask.Input(
                    "mask", optional=True, tooltip="The region, in the place of the four numbers."
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", tooltip="For the next region, or for KSampler with the plain MODEL."
                ),
                io.Conditioning.Output("negative", tooltip="The same."),
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        clip: Any,
        concept: TrainedConcept,
        text: str,
        left: float,
        top: float,
        width: float,
        height: float,
        strength: float,
        canvas: Canvas,
        feather: float,
        negative_text: str,
        positive: Any = None,
        negative: Any = None,
        mask: Any = None,
    ) -> io.NodeOutput:
        spelt = placeholder_pattern([concept.placeholder])
        if "{}" not in text and not re.search(spelt, text):
            raise ValueError(
                f"text {text[:60]!r} has no subject: write {{}} where {concept.trigger!r} belongs"
            )
        if mask is None:
            mask = Region(left, top, width, height, feather).mask()
        say_layer("Concept in Region", clip, concept)
        words = corrected_clip(clip, concept, 0.0)
        texts = [said.replace("{}", concept.trigger) for said in (text, negative_text)]
        pair = encode(words, texts[0]), encode(words, texts[1])
        hooks = concept_hooks(concept, strength)
        return io.NodeOutput(*placed(pair, mask, hooks, canvas, (positive, negative)))


NODES = [CreateHookConcept, ConceptInRegion]
