"""The layer that prompts are read at: CLIP Set Last Layer, and what a concept was trained with."""

from __future__ import annotations

from typing import Any

from ....attndb.artifacts.clip_layer import OWN, layer_name, trained_layer
from ....attndb.artifacts.concept import TrainedConcept
from .placeholders import encoder_names


def chosen_layer(clip: Any) -> int:
    """The layer that CLIP Set Last Layer chose; OWN where that is what CLIP reads without it."""
    layer = clip.layer_idx
    encoder = clip.cond_stage_model
    own = [_own(getattr(encoder, name)) for name in encoder_names(encoder)]
    return OWN if layer is None or set(own) == {layer} else layer


def _own(encoder: Any) -> int:
    """The layer that an encoder reads if nobody chooses one."""
    layer, number, *_ = encoder.options_default
    return number if layer == "hidden" else -1


def layer_warning(clip: Any, concept: TrainedConcept) -> str:
    """What to say where CLIP is read at another layer than in training; else empty."""
    trained, now = trained_layer(concept.record), chosen_layer(clip)
    if trained is None or trained == now:
        return ""
    remedy = (
        f"set it to {trained} in front of this node, or behind it" if trained else "take it out"
    )
    return (
        f"the concept {concept.placeholder} was trained with {layer_name(trained)}, and this CLIP "
        f"is read at {layer_name(now)}, which draws it otherwise: {remedy}"
    )
