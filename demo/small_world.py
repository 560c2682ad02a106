"""The worlds of the embedded models, as the demo uses them: subjects, scenes, size, recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..attndb.config.presets import PRESETS
from ..attndb.config.stage import StageConfig
from ..micro import concepts as first
from ..micro import weight_files
from ..micro.micro2 import concepts as second
from ..micro.micro2.shipped import FOLDER as SECOND_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class SmallWorld:
    """One of the embedded models and what it can draw."""

    name: str
    side: int
    """Pixels of a picture."""
    guidance: float
    weights: Path
    """Folder of the model's files."""
    concepts: Mapping[str, Any]
    default: str
    """The concept that the demo takes."""
    scenes: Mapping[str, str]
    """Prompts that no photo shows, and their short names."""
    mapped: tuple[int, int]
    """Scenes whose attention maps are shown."""
    photos: Callable[[Any], list[tuple[Image.Image, Image.Image, Any]]]
    """Photos of a concept, masks, and what is on them."""

    def recipe(self, preset: str) -> tuple[StageConfig, ...]:
        """A preset at this world's size."""
        return tuple(
            config.with_(data=replace(config.data, resolution=self.side))
            for config in PRESETS[preset]()
        )


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype("uint8") * (255 if pixels.dtype == bool else 1))


FIRST = SmallWorld(
    name="attndb-micro",
    side=64,
    guidance=4.0,
    weights=weight_files.FOLDER,
    concepts=first.CONCEPTS,
    default="hat-robot",
    scenes={
        "a photo of a {} in a forest": "forest",
        "a photo of a {} underwater": "underwater",
        "a photo of a {} in space": "space",
        "a photo of a {} at night": "night",
        "a sketch of a {} in the desert": "sketch, desert",
        "pixel art of a {} on the beach": "pixel art, beach",
    },
    mapped=(0, 3),
    photos=lambda concept: [(_picture(p), _picture(m), s) for p, m, s in concept.photos()],
)
SECOND = SmallWorld(
    name="attndb-micro 2",
    side=128,
    guidance=3.0,
    weights=SECOND_WEIGHTS,
    concepts=second.CONCEPTS,
    default="hatted-robot",
    scenes={
        "a photo of a {} in a forest": "forest",
        "a photo of a {} next to a white house in the desert at sunset": "beside a house",
        "a photo of a {} holding a yellow balloon in space": "balloon, space",
        "a sketch of a {} on the beach": "sketch, beach",
        "pixel art of a {} on a stage": "pixel art, stage",
        "a watercolour of a {} in the snow at night": "watercolour, snow",
    },
    mapped=(0, 1),
    photos=lambda concept: [
        (_picture(drawn.picture), _picture(drawn.mask), scene) for drawn, scene in concept.photos()
    ],
)
WORLDS = {"1": FIRST, "2": SECOND}
