"""What model managers read of a concept's files beside the modelspec: kohya's keys and a picture.

`ss_base_model_version`, `trained_words` and `ssmd_cover_images` are read by ComfyUI's asset scanner
and by managers; `<file>.preview.png` by all of them.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from .concept import TrainedConcept
from .lineage import KEPT, lineage
from .prediction_metadata import KEY as PREDICTION_KEY
from .tensor_file import Writer, png_writer

_BASE_VERSIONS = {
    "SD 1.5": "sd_v1",
    "SD 2.1-base": "sd_v2",
    "SD 2.1-768": "sd_v2",
    "SDXL": "sdxl_base_v1-0",
}
"""kohya sd-scripts' names; the first three end in `_v` where the model predicts v."""
_PREDICTIONS = {"SD 1.5": "epsilon", "SD 2.1-base": "epsilon", "SD 2.1-768": "v"}
"""Where the record does not say it: behind a model sampling node each may predict the other."""
_URL_START = "base64,"
_MOST_PIXELS = 16_000_000
"""Of a picture in a record. This pack's have 256 px a side."""


def manager_metadata(concept: TrainedConcept) -> dict[str, str]:
    """Metadata for managers; only what is known of the concept."""
    metadata = {"trained_words": json.dumps([concept.trigger])}
    if version := _BASE_VERSIONS.get(concept.base_family):
        usual = _PREDICTIONS.get(concept.base_family)
        told = concept.record.get("prediction_type", usual)
        metadata["ss_base_model_version"] = f"{version}_v" if usual and told == "v" else version
        if isinstance(told, str):
            metadata[PREDICTION_KEY] = told
    if picture := record_thumbnail(concept.record):
        metadata["ssmd_cover_images"] = json.dumps([base64.b64encode(picture).decode()])
    return metadata


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
