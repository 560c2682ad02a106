"""WordMaps: one map per word and picture, averaged over chosen layers, heads and steps.

Shapes: B batch, W words, S slices of time, K kept heads, P pixels of one layer, Y x X latent
pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.cross_attention import region_of
from .prompt_words import Word, plain_text
from .recorder import AttentionRecord, LatentWindow, MapKey, MapSum

log = logging.getLogger(__name__)

LayerGroup = Literal["down and up", "all", "down", "middle", "up", "finest", "coarsest", "listed"]
LAYER_GROUPS: tuple[str, ...] = get_args(LayerGroup)


@dataclass(frozen=True, kw_only=True)
class MapSelection:
    """Which of the recorded maps are averaged."""

    layers: LayerGroup = "down and up"
    """`down and up`: all but the middle block, whose maps are the coarsest (daam's choice).
    `down`, `middle`, `up`: part of the U-Net. `finest`, `coarsest`: the layers with the largest
    or the smallest maps. `listed`: those that `layer_list` names."""
    layer_list: tuple[str, ...] = ()
    """For `listed`: resolutions as `16x24` (height x width; `16` for any with this height), or
    beginnings of layer names as `input_blocks.1.`; each must fit at least one layer."""
    head: int | None = None
    """One attention head, counted from 0, in the layers that have it; None: the mean of all."""
    start: float = 0.0
    """Beginning of the window on the noise schedule: 0 is pure noise. Rounded to whole slices."""
    end: float = 1.0
    """End of the window: 1 is the finished picture."""

    def __post_init__(self) -> None:
        if self.layers not in LAYER_GROUPS:
            raise ValueError(f"layers = {self.layers!r}: choose one of {', '.join(LAYER_GROUPS)}")
        if self.layers == "listed" and not self.layer_list:
            raise ValueError("layer_list is empty: name layers or resolutions, or choose a group")
        if self.head is not None and self.head < 0:
            raise ValueError(f"head = {self.head}: heads are counted from 0")
        if not 0.0 <= self.start < self.end <= 1.0:
            raise ValueError(
                f"start = {self.start:g}, end = {self.end:g}: the window must lie in 0..1 and "
                "start before it ends"
            )


@dataclass(frozen=True)
class WordMaps:
    """Attention maps of words, one set for each picture of a batch."""

    words: tuple[Word, ...]
    maps: Tensor
    """(B, W, Y, X), fp32: the share of attention, 0..1, that a place gives to a word. Sub-tokens
    are added up, so that a word of many tokens counts whole."""

    def of(self, query: str) -> Tensor:
        """Maps of one word, (B, Y, X); of the first place if it occurs more than once.

        ValueError with the words there are.
        """
        return self.maps[:, self._places(query)[0]]

    def choose(self, queries: Sequence[str]) -> WordMaps:
        """The maps of some words in the given order, every place of a repeated one; all of none."""
        if not queries:
            return self
        places = dict.fromkeys(place for query in queries for place in self._places(query))
        return WordMaps(tuple(self.words[place] for place in places), self.maps[:, list(places)])

    def _places(self, query: str) -> list[int]:
        asked = plain_text(query)
        labels = [plain_text(word.label) for word in self.words]
        exact = [place for place, label in enumerate(labels) if label == asked]
        found = exact or [
            place for place, label in enumerate(labels) if label.rsplit("#", 1)[0] == asked
        ]
        if not found:
            known = ", ".join(word.label for word in self.words)
            raise ValueError(f"there is no map of {query!r}; there are maps of: {known}")
        return found


def no_maps(latent: Tensor) -> WordMaps:
    """Of pictures (B, C, Y, X) that were drawn without a look at any word."""
    return WordMaps((), torch.zeros(len(latent), 0, *latent.shape[-2:]))


def word_maps_of(record: AttentionRecord, selection: MapSelection) -> WordMaps:
    """Mean maps of the chosen layers, heads and time, on the latent's pixels.

    As in daam (Tang et al., 2023, equation 8), every head of every layer counts the same: each
    layer is averaged over the steps, brought to the latent's size (bicubic, below 0 cut off), and
    the layers are averaged by their number of heads. ValueError if nothing is left.
    """
    if not record.sums:
        raise ValueError("nothing was recorded: the model has not drawn with this prompt")
    keys = choose_keys(record, selection)
    slices = _window(record, selection)
    layers: dict[str, list[MapKey]] = {}
    for key in keys:
        layers.setdefault(key.layer, []).append(key)
    maps, weights = [], []
    for group in layers.values():
        on_canvas = _layer_map(record, group, slices, selection.head)
        if on_canvas is not None:
            maps.append(on_canvas)
            weights.append(record.sums[group[0]].heads if selection.head is None else 1)
    if not maps:
        raise ValueError(
            f"head = {selection.head}: none of the chosen layers has this head; heads are counted "
            "from 0"
        )
    share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    return WordMaps(record.words, torch.einsum("l,lbwyx->bwyx", share, torch.stack(maps)))


def choose_keys(record: AttentionRecord, selection: MapSelection) -> list[MapKey]:
    """The recorded layers that the selection means. ValueError that names those there are."""
    found = list(record.sums)
    if selection.layers == "all":
        return found
    if selection.layers in ("finest", "coarsest"):
        scales = {key: _scale(key, record.latent_size) for key in found}
        pick = max if selection.layers == "finest" else min
        return [key for key in found if scales[key] == pick(scales.values())]
    if selection.layers == "listed":
        return _listed(found, selection.layer_list)
    regions = selection.layers.split(" and ")
    chosen = [key for key in found if region_of(key.layer) in regions]
    if not chosen:
        raise ValueError(f"layers = {selection.layers!r}: this model has no such layer")
    return chosen


def _scale(key: MapKey, latent_size: tuple[int, int]) -> float:
    """Map pixels per latent pixel along the height."""
    return round(key.height / (key.crop.height if key.crop else latent_size[0]), 3)


def _listed(keys: list[MapKey], names: tuple[str, ...]) -> list[MapKey]:
    chosen: list[MapKey] = []
    for name in names:
        fitting = [
            key
            for key in keys
            if name in (str(key.height), f"{key.height}x{key.width}") or key.layer.startswith(name)
        ]
        if not fitting:
            sizes = sorted({f"{key.height}x{key.width}" for key in keys})
            layers = sorted({key.layer for key in keys})
            raise ValueError(
                f"layer_list: {name!r} fits no recorded layer; resolutions: {', '.join(sizes)}; "
                f"layers: {', '.join(layers)}"
            )
        chosen += [key for key in fitting if key not in chosen]
    return chosen


def _window(record: AttentionRecord, selection: MapSelection) -> list[int]:
    """Slices of time inside the window that hold steps."""
    count = record.slices
    first = min(math.floor(selection.start * count + 1e-6), count - 1)
    stop = max(first + 1, math.ceil(selection.end * count - 1e-6))
    filled = torch.stack([found.count for found in record.sums.values()]).sum(dim=0) > 0
    chosen = [index for index in range(first, min(stop, count)) if filled[index]]
    if not chosen:
        steps = [index for index in range(count) if filled[index]]
        spans = ", ".join(f"{index / count:g}-{(index + 1) / count:g}" for index in steps)
        raise ValueError(
            f"start = {selection.start:g}, end = {selection.end:g}: the window holds no sampling "
            f"step; steps lie in: {spans}"
        )
    if abs(first / count - selection.start) > 1e-6 or abs(stop / count - selection.end) > 1e-6:
        log.info("the window is rounded to %g..%g", first / count, stop / count)
    return chosen


def _layer_map(
    record: AttentionRecord, keys: list[MapKey], slices: list[int], head: int | None
) -> Tensor | None:
    """One layer's mean map on the whole latent, (B, W, Y, X); None if it lacks the head."""
    height, width = record.latent_size
    total: Tensor | None = None
    cover = torch.zeros(height, width)
    for key in keys:
        found = record.sums[key]
        map_BWP, count = _mean_over_time(found, slices, head, record.keep_heads)
        if map_BWP is None or count == 0:
            continue
        crop = key.crop or LatentWindow(0, 0, height, width)
        part = map_BWP.unflatten(-1, (key.height, key.width))
        size = (crop.height, crop.width)
        if part.shape[-2:] != size:
            part = F.interpolate(part, size=size, mode="bicubic", align_corners=False).clamp(min=0)
        if total is None:
            total = torch.zeros(*part.shape[:2], height, width)
        rows = slice(crop.top, crop.top + crop.height)
        columns = slice(crop.left, crop.left + crop.width)
        total[..., rows, columns] += part * count
        cover[rows, columns] += count
    return None if total is None else total / cover.clamp(min=1e-12)


def _mean_over_time(
    found: MapSum, slices: list[int], head: int | None, keep_heads: bool
) -> tuple[Tensor | None, float]:
    total_BWKP = found.total[slices].sum(dim=0)
    count = float(found.count[slices].sum())
    if head is not None:
        if not keep_heads:
            raise ValueError(
                f"head = {head}: only the mean of the heads was kept; turn on keep_heads in the "
                "capture and draw again"
            )
        if head >= total_BWKP.shape[2]:
            return None, 0.0
        return total_BWKP[:, :, head] / max(count, 1.0), count
    return total_BWKP.mean(dim=2) / max(count, 1.0), count
