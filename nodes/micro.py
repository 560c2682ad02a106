"""The embedded micro model as a node."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..micro.concepts import CONCEPTS
from .errors import naming_node
from .host.model.micro import load_micro
from .host.paths import embedding_folders

CATEGORY = "AttnDreamBooth/demo"


class LoadMicroModel(io.ComfyNode):
    """Loads attndb-micro: a toy that draws 64 px scenes, for learning and testing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBLoadMicroModel",
            display_name="Load Micro Model (demo)",
            category=CATEGORY,
            description=(
                "A very small text-to-image model that ships with this pack. It draws cartoon "
                "scenes of 64 x 64 px (14 objects, 10 colours, 5 patterns, 10 places, 3 styles) "
                "and trains in minutes on a laptop. It is a toy: for real photos load Stable "
                "Diffusion. Use a 64 x 64 Empty Latent Image, CFG 4 and about 20 steps."
            ),
            search_aliases=["demo", "toy model", "tiny model", "checkpoint", "test model"],
            inputs=[],
            outputs=[
                io.Model.Output(
                    "model", tooltip="The micro U-Net (7 M parameters, epsilon-prediction)."
                ),
                io.Clip.Output(
                    "clip",
                    tooltip="Its text encoder. It knows about 60 words; the log names words of a "
                    "prompt that it does not know.",
                ),
                io.Vae.Output("vae", tooltip="Its VAE: 64 x 64 px are 8 x 8 latents."),
            ],
        )

    @classmethod
    @naming_node
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_micro(embedding_folders()))


class MicroConcept(io.ComfyNode):
    """Photos of a subject that the micro model cannot name."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBMicroConcept",
            display_name="Micro Concept Photos (demo)",
            category=CATEGORY,
            description=(
                "Five photos (64 x 64 px) of a subject of the micro world that the micro model was "
                "never shown, with its true outline. Connect them to Concept Dataset From Images."
            ),
            search_aliases=["demo photos", "example images", "toy subject"],
            inputs=[
                io.Combo.Input(
                    "concept",
                    options=list(CONCEPTS),
                    tooltip="Which subject: the last word of its name is its category.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The photos, in five places."),
                io.String.Output("category", tooltip="What the subject is, e.g. robot."),
                io.Mask.Output("masks", tooltip="1 where the subject is, for each photo."),
            ],
        )

    @classmethod
    @naming_node
    def execute(cls, concept: str) -> io.NodeOutput:
        chosen = CONCEPTS[concept]
        pictures, masks, _ = zip(*chosen.photos(), strict=True)
        images = torch.from_numpy(np.stack(pictures)).float() / 255.0
        outlines = torch.from_numpy(np.stack(masks)).float()
        return io.NodeOutput(images, chosen.category, outlines)


NODES: list[Any] = [LoadMicroModel, MicroConcept]
