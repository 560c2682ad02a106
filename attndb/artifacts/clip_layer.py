"""Which layer of the text encoder a concept was trained with (clip skip).

A layer is counted from the end: -2 is the last but one. OWN is the one that the family reads unless
it is told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.family import FAMILIES
from .concept import TrainedConcept

OWN = 0
RECORD_KEY = "clip_layer"
"""Of a stage's record, or of an imported concept's. A stage that says nothing read OWN."""
SKIP_KEY = "ss_clip_skip"
"""kohya sd-scripts': 1 is the last layer, 2 the last but one."""
_DEEPEST = 24
"""As far as CLIP Set Last Layer goes."""


def trained_layer(record: Mapping[str, Any]) -> int | None:
    """The layer that the last stage was trained with; None where that is not known."""
    stages = record.get("stages")
    last = stages[-1] if isinstance(stages, list) and stages else None
    told = last if isinstance(last, Mapping) else record
    layer = told.get(RECORD_KEY, OWN if told is last else None)
    return layer if type(layer) is int and -_DEEPEST <= layer <= OWN else None


def layers_skipped(concept: TrainedConcept) -> int:
    """How many layers fewer than the family's own training read; 0 where that is not known."""
    family, layer = FAMILIES.get(concept.base_family), trained_layer(concept.record)
    return family.own_layer - layer if family and layer else 0


def skip_metadata(concept: TrainedConcept) -> dict[str, str]:
    """What kohya's scripts say of it in a file; nothing of the family's own layer, nor of a family
    whose layers they do not count so."""
    skipped = layers_skipped(concept)
    return {SKIP_KEY: str(skipped + 1)} if skipped and _skips(concept.base_family) else {}


def told_layer(metadata: Mapping[str, str], base_family: str) -> int | None:
    """The layer that a file of kohya's scripts says; None where it says none, or is of a family
    whose layers they do not count so."""
    told = metadata.get(SKIP_KEY, "")
    if not _skips(base_family) or not (told.isascii() and told.isdecimal()):
        return None
    layer = -int(told[:4])
    return OWN if layer == -1 else layer if -_DEEPEST <= layer < 0 else None


def _skips(base_family: str) -> bool:
    """Whether kohya's scripts count from the text encoder's last layer: of SD 2 they count from the
    last but one, of SDXL they skip none."""
    family = FAMILIES.get(base_family)
    return family is not None and family.own_layer == -1


def layer_name(layer: int) -> str:
    """In the middle of a sentence."""
    return f"layer {layer} (CLIP Set Last Layer)" if layer else "CLIP's own layer"
