"""A concept that carries the small picture of its training, for what file managers read."""

from __future__ import annotations

import base64
import io

import torch
from PIL import Image

from attndreambooth.attndb.artifacts.concept import TrainedConcept

WEIGHT = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def pictured(side: int = 16, kind: str = "JPEG") -> TrainedConcept:
    """Of SD 1.5, as if trained: one word, one weight, one picture."""
    file = io.BytesIO()
    Image.new("L", (side, side), 90).save(file, kind)
    picture = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return TrainedConcept(
        placeholder="<my-robot>",
        category="robot",
        text_key="clip_l",
        vectors=torch.ones(1, 768),
        delta={WEIGHT: torch.ones(320, 768)},
        base_family="SD 1.5",
        record={"stages": [], "thumbnail": picture},
    )
