"""What model managers read of a concept's files beside the modelspec: kohya's keys and a picture.

`ss_base_model_version`, `trained_words` and `ssmd_cover_images` are read by ComfyUI's asset scanner
and by managers; `<file>.preview.png` by all of them.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..config.family import FAMILIES, Family
from .clip_layer import skip_metadata
from .concept import TrainedConcept
from .lineage import KEPT, lineage
from .prediction_metadata import KEY as PREDICTION_KEY
from .tensor_file import Writer, png_writer
from .weight_delta import LowRank

_MIXED = "Dynamic"
"""kohya's word for the rank of a LoRA whose layers have several."""
_URL_START = "base64,"
_MOST_PIXELS = 16_000_000
"""Of a picture in a record. This pack's have 256 px a side."""


def manager_metadata(concept: TrainedConcept) -> dict[str, str]:
    """Metadata for managers; only what is known of the concept."""
    metadata = {"trained_words": json.dumps([concept.trigger])}
    if family := FAMILIES.get(concept.base_family):
        metadata["ss_base_model_version"] = _base_version(concept, family)
        metadata |= skip_metadata(concept)
        if told := _prediction(concept, family):
            metadata[PREDICTION_KEY] = told
    if picture := record_thumbnail(concept.record):
        metadata["ssmd_cover_images"] = json.dumps([base64.b64encode(picture).decode()])
    return metadata


def network_metadata(concept: TrainedConcept) -> dict[str, str]:
    """What kohya's scripts tell of a LoRA that they train: by this A1111 knows which models it is
    for, and managers its rank. Of a concept of a known family."""
    family = FAMILIES[concept.base_family]
    changes = [change for change in concept.delta.values() if isinstance(change, LowRank)]
    most = max(change.up.shape[1] for change in changes)
    full = all(change.up.shape[1] == min(most, *_matrix(change)) for change in changes)
    rank = str(most) if full else _MIXED
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_base_model_version": _base_version(concept, family),
        "ss_v2": str(family.kohya_v2),
        **skip_metadata(concept),
    }
    if any(math.prod(change.shape[2:]) > 1 for change in changes):
        metadata["ss_network_args"] = json.dumps({"conv_dim": rank, "conv_alpha": rank})
    return metadata


def _base_version(concept: TrainedConcept, family: Family) -> str:
    """kohya's name of the base model."""
    told = family.predicts and _prediction(concept, family) == "v"
    return f"{family.kohya_version}_v" if told else family.kohya_version


def _prediction(concept: TrainedConcept, family: Family) -> str:
    """What the model predicted in training; empty where it is not known."""
    told = concept.record.get("prediction_type", family.predicts)
    return told if isinstance(told, str) else ""


def _matrix(change: LowRank) -> tuple[int, int]:
    return change.up.shape[0], change.down.shape[1]


def preview_writer(concept: TrainedConcept) -> Writer | None:
    """A writer of the concept's picture as a PNG; None if it carries none."""
    picture = record_thumbnail(concept.record)
    if picture is None:
        return None
    try:
        with open_thumbnail(picture) as opened:
            return png_writer(opened.convert("RGB"))
    except (OSError, ValueError):
        return None


def without_photos(concept: TrainedConcept) -> TrainedConcept:
    """The concept without the picture and the names of its photos in the record, which still says
    of what beginning it is."""
    kept = {key: v for key, v in concept.record.items() if key not in ("thumbnail", "photos")}
    return concept.with_record({**kept, KEPT: lineage(concept).key})


def open_thumbnail(picture: bytes) -> Image.Image:
    """The picture that a record carries, to be decoded. ValueError for one that is not small: a
    file may come from anywhere, and a few bytes can ask for gigabytes."""
    try:
        opened = Image.open(io.BytesIO(picture), formats=["JPEG", "PNG"])
    except Image.DecompressionBombError as error:
        raise ValueError(f"its picture is no thumbnail: {error}") from error
    if opened.width * opened.height > _MOST_PIXELS:
        raise ValueError(
            f"its picture is no thumbnail: {opened.width} x {opened.height} px, and at most "
            f"{_MOST_PIXELS // 10**6} megapixels are read"
        )
    return opened


def record_thumbnail(record: Mapping[str, Any]) -> bytes | None:
    """The encoded picture that a concept's record carries, if it is one."""
    url = record.get("thumbnail")
    if not isinstance(url, str) or _URL_START not in url:
        return None
    try:
        return base64.b64decode(url.partition(_URL_START)[2], validate=True)
    except (binascii.Error, ValueError):
        return None
