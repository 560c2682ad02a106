"""The map of a subject on its photo: cross-attention, spread by self-attention, at its edges."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ..models.cross_attention import region_of
from .affinity import Affinity
from .guided_filter import guided_filter
from .recorder import AttentionRecord
from .word_maps import MapSelection, word_maps_of

_LEAST_PLACES = 8
"""Along the shorter side: a layer with fewer cannot part a subject from what is beside it."""
_TIMES = 2
_SMOOTH = 1e-3


def subject_layers(record: AttentionRecord) -> tuple[str, ...]:
    """Names of the layers that say where a subject is: those of the up path (it decides what is
    drawn where), of 8 places or more; else all that were recorded."""
    up = [key for key in record.sums if region_of(key.layer) == "up"]
    fine = [key for key in up if min(key.height, key.width) >= _LEAST_PLACES]
    return tuple(dict.fromkeys(key.layer for key in fine or up or record.sums))


def subject_map(record: AttentionRecord, affinity: Affinity, photo_YX3: Tensor) -> Tensor:
    """Where the recorded word's subject is on its one photo, as a map of the photo's size (Y, X).

    The mean map of the word in `subject_layers`; spread twice by the finest self-attention (see
    Affinity); scaled up, its edges taken from the photo by a guided filter as wide as one place of
    the map. ValueError if nothing was recorded.
    """
    places = affinity.size or _finest(record)
    if places is not None:
        record = replace(record, latent_size=places)
    selection = MapSelection(layers="listed", layer_list=subject_layers(record) or ("none",))
    [map_YX] = word_maps_of(record, selection).maps[0]
    map_YX = affinity.spread(map_YX, _TIMES)
    height, width = photo_YX3.shape[:2]
    place = height / map_YX.shape[0]
    large = F.interpolate(
        map_YX[None, None], size=(height, width), mode="bicubic", align_corners=False
    )[0, 0]
    return guided_filter(large, photo_YX3, max(1, round(place)), _SMOOTH)


def _finest(record: AttentionRecord) -> tuple[int, int] | None:
    """Height and width of the finest layer, which may be coarser than the latent (SD 3, Flux)."""
    sizes = [(key.height, key.width) for key in record.sums]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)
