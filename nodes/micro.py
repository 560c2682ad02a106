"""The embedded micro model as a node."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.v0_0_2 import io

from ..attndb.config.choices import require_choice
from ..attndb.config.printable import quoted
from ..micro.concepts import CONCEPTS
from .errors import naming_node
from .host.model.micro import load_micro
from .host.paths import embedding_folders

CATEGORY = "AttnDreamBooth/demo"
PHOTO_SETS = {"five places": "many", "two places": "two"}
"""As the node names them, and as the world does."""


class LoadMicroModel(io.ComfyNode):
    """Loads attndb-micro: a toy that draws 128 px scenes, for learning and testing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBLoadMicroModel",
            display_name="Load Micro Model (demo)",
            category=CATEGORY,
            description=(
                "A very small text-to-image model that ships with this pack. It draws scenes of "
                "128 x 128 px (14 objects, 23 colours, 10 places, 4 styles, light and weather, a "
                "second object, hats and things in hand) and learns a subject in minutes on a "
                "laptop. It is a toy: for real photos load Stable Diffusion. Use a 128 x 128 "
                "Empty Latent Image, CFG 3 and about 20 steps."
            ),
            search_aliases=["demo", "toy model", "tiny model", "checkpoint", "test model"],
            inputs=[],
            outputs=[
                io.Model.Output(
                    "model", tooltip="The micro U-Net (12 M parameters, v-prediction)."
                ),
                io.Clip.Output(
                    "clip",
                    tooltip="Its text encoder. It knows about 100 words; the log names words of a "
                    "prompt that it does not know.",
                ),
                io.Vae.Output("vae", tooltip="Its VAE: 128 x 128 px are 16 x 16 latents."),
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
                "Five photos (128 x 128 px) of a subject of the micro world that the micro model "
                "was never shown and has no words for, with its true outline. Connect them to "
                "Concept Dataset From Images."
            ),
            search_aliases=["demo photos", "example images", "toy subject"],
            inputs=[
                io.Combo.Input(
                    "concept",
                    options=list(CONCEPTS),
                    tooltip="Which subject: the last word of its name is its category.",
                ),
                io.Combo.Input(
                    "photo_set",
                    options=list(PHOTO_SETS),
                    default="five places",
                    optional=True,
                    tooltip="In how many places the photos were taken. With two, a training can "
                    "take the place for a part of the subject.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The photos."),
                io.String.Output("category", tooltip="What the subject is, e.g. robot."),
                io.Mask.Output("masks", tooltip="1 where the subject is, for each photo."),
            ],
        )

    @classmethod
    def validate_inputs(cls, concept: object) -> bool | str:
        """Subjects of the first version are not in this one: the answer says what to do."""
        if concept is None or concept in CONCEPTS:  # None is a link
            return True
        return (
            f"concept = {quoted(concept)} is no subject of attndb-micro: choose one of "
            f"{', '.join(CONCEPTS)}. A workflow made with its first version (64 px) names others: "
            "in such a workflow also set Empty Latent Image to 128 x 128 and CFG to 3"
        )

    @classmethod
    @naming_node
    def execute(cls, concept: str, photo_set: str = "five places") -> io.NodeOutput:
        require_choice("concept", concept, tuple(CONCEPTS))
        require_choice("photo_set", photo_set, tuple(PHOTO_SETS))
        chosen = CONCEPTS[concept]
        photos = [drawn for drawn, _ in chosen.photos(PHOTO_SETS[photo_set])]
        images = torch.from_numpy(np.stack([photo.picture for photo in photos])).float() / 255.0
        outlines = torch.from_numpy(np.stack([photo.mask for photo in photos])).float()
        return io.NodeOutput(images, chosen.category, outlines)


NODES: list[Any] = [LoadMicroModel, MicroConcept]
