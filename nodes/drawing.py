"""Widgets that say how pictures are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.config.drawing import MAX_SEED
from .host.model.sampling import SAMPLERS, SCHEDULERS, SamplerSettings


def drawing_widgets(
    seed: str = "The same noise for every column.", before: str = ""
) -> list[io.Input]:
    """How pictures are drawn; `seed`, `before`: what the widgets say."""
    return [
        io.Int.Input(
            "seed", default=0, min=0, max=MAX_SEED, control_after_generate=False, tooltip=seed
        ),
        io.Int.Input("steps", default=30, min=1, max=1000, tooltip="Sampler steps."),
        io.Float.Input("cfg", default=7.5, min=0.0, max=100.0, step=0.1, tooltip="Guidance."),
        io.Int.Input("width", default=512, min=64, max=4096, step=8, tooltip="Of the pictures."),
        io.Int.Input("height", default=512, min=64, max=4096, step=8, tooltip="Of the pictures."),
        io.Boolean.Input(
            "before_training",
            default=True,
            tooltip=before or "A first column without any concept: the plain category.",
        ),
    ]


def sampler_widgets(*, optional: bool = False) -> list[io.Input]:
    """Which sampler draws. `optional`: prompts were saved before the node had them."""
    return [
        io.Combo.Input(
            "sampler_name",
            options=SAMPLERS,
            default="dpmpp_2m",
            optional=optional,
            tooltip="The host's sampler.",
            advanced=True,
        ),
        io.Combo.Input(
            "scheduler",
            options=SCHEDULERS,
            default="normal",
            optional=optional,
            tooltip="The host's schedule of noise levels.",
            advanced=True,
        ),
    ]


def sampler_settings(widgets: Mapping[str, Any]) -> SamplerSettings:
    """What `drawing_widgets` and `sampler_widgets` say."""
    return SamplerSettings(
        steps=widgets["steps"],
        cfg=widgets["cfg"],
        width=widgets["width"],
        height=widgets["height"],
        seed=widgets["seed"],
        sampler_name=widgets["sampler_name"],
        scheduler=widgets["scheduler"],
    )


def applied_widgets() -> list[io.Input]:
    """How concepts are applied, and what pictures should not show. Prompts were saved before the
    nodes had them."""
    return [
        io.String.Input(
            "strengths",
            default="1.0",
            optional=True,
            tooltip="Of each concept, as in Apply Concept: a number from 0 to 10. Several with "
            "commas, e.g. 1.0, 0.8, 0.6: a column for each.",
            advanced=True,
        ),
        io.String.Input(
            "corrections",
            default="0.0",
            optional=True,
            tooltip="Of each concept, as correction in Apply Concept: a number from 0 to 1, or "
            "several, e.g. 0.0, 0.2: a column for each, with each of the strengths.",
            advanced=True,
        ),
        io.String.Input(
            "negative",
            default="",
            multiline=True,
            optional=True,
            tooltip="What the pictures should not show: the negative prompt of all of them, before "
            "training too. {} becomes what it becomes in a prompt.",
            advanced=True,
        ),
    ]
