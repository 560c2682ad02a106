"""Run: what is known of one sampling run while it is captured, and which rows of a call it reads.

Shapes: B batch, P pixels (queries), T text tokens (keys), N all keys, E width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ....attndb.attention.recorder import LatentWindow, MapKey, MapRecorder
from ....attndb.config.named import named
from ..model.text_distance import is_cast_of
from .conditioning import PromptPlace, area_of

_IN_PARTS = (
    "Another node cuts the picture or the batch into parts (tiles, windows); what the model drew "
    "of a part was left out."
)


@dataclass(frozen=True)
class Rows:
    """A part of the model's batch that was made with the capture's prompt."""

    rows: slice
    first_column: int
    length: int
    text_tokens: int
    """Length of the text on the key axis: of this prompt, repeated to that of the longest."""
    crop: LatentWindow | None


@dataclass
class Run:
    """One sampling run under way."""

    recorder: MapRecorder
    guider: Any
    batch: int
    size: tuple[int, int]
    """Height and width of the latent."""
    wanted: dict[Any, PromptPlace]
    """Conditionings that hold the prompt, by uuid."""
    note: str
    _in_parts: bool = field(default=False, init=False)
    _left_out: dict[str, dict[str, None]] = field(default_factory=dict, init=False)
    """Layers that were, by what another node changed."""
    _accepted: dict[tuple[Any, int], bool] = field(default_factory=dict, init=False)
    _ends: list[float] | None = field(default=None, init=False)
    """Sigmas at which the slices of sampling end; None: not asked for yet."""
    _evaluation: int = field(default=0, init=False)
    _first: dict[Any, int] | None = field(default=None, init=False)
    """The evaluation of this prediction in which a conditioning came first; None: not told."""

    def predicts(self) -> None:
        """The sampler asks for a prediction."""
        self._first = {}

    def evaluates(self) -> None:
        """Conditionings are evaluated; a prediction may do so more than once."""
        self._evaluation += 1

    def leave_out(self, changed: str, layer: str) -> None:
        """A layer is not read, for another node changed this of it."""
        self._left_out.setdefault(changed, {})[layer] = None

    def remarks(self) -> list[str]:
        """What was left out, and why."""
        found = [_IN_PARTS] if self._in_parts else []
        for changed, layers in self._left_out.items():
            names = named(list(layers), 1)
            found.append(f"{names}: another node changes their {changed}; left out of the maps.")
        return found

    def rows(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> list[Rows]:
        """Parts of this call's batch to look at; conditional and unconditional in any order."""
        indexes = options.get("cond_or_uncond") or []
        uuids = options.get("uuids") or []
        drawn = [ident for ident in uuids if ident in self.wanted and self._draws(ident)]
        if drawn and (len(uuids) != len(indexes) or x.shape[0] != self.batch * len(indexes)):
            self._in_parts = True
            return []
        found = []
        for chunk, (ident, index) in enumerate(zip(uuids, indexes, strict=False)):
            if ident not in drawn:
                continue
            place, crop = self.wanted[ident], self._window(ident)
            if tuple(x.shape[2:]) != (self.size if crop is None else (crop.height, crop.width)):
                self._in_parts = True
                continue
            rows = slice(chunk * self.batch, (chunk + 1) * self.batch)
            if (ident, index) not in self._accepted:
                # For a regional prompt the host makes a negative twin with the same uuid.
                there = context[rows.start : rows.start + 1, : place.length]
                self._accepted[ident, index] = crop is None or is_cast_of(there, place.text[:1])
            if self._accepted[ident, index]:
                found.append(Rows(rows, place.first_column, place.length, context.shape[1], crop))
        return found

    def see(
        self,
        rows: list[Rows],
        index: Tensor,
        name: str,
        q_BPE: Tensor,
        k_BNE: Tensor,
        heads: int,
        size: tuple[int, int],
        bias_BHPN: Tensor | None = None,
    ) -> None:
        """Adds one layer's maps of one call, of a picture of `size` (height, width) at that layer.
        `bias_BHPN` is added before the softmax, or, of bools, says what may be seen; 1 for B or H
        is for all."""
        for part in rows:
            self.recorder.add(
                MapKey(name, *size, part.crop),
                q_BPE[part.rows],
                k_BNE[part.rows],
                heads,
                slice_index=index,
                first_column=part.first_column,
                period=part.length,
                text_tokens=part.text_tokens,
                bias_BHPT=_of(bias_BHPN, part.rows),
            )

    def slice_of(self, sampling: Any, sigma: Tensor, slices: int) -> Tensor:
        """Index of the slice of sampling in which a sigma lies, (1,)."""
        if self._ends is None:
            self._ends = slice_ends(sampling, slices)
        return slice_of_sigma(self._ends, sigma)

    def _draws(self, ident: Any) -> bool:
        """Whether this evaluation of a conditioning is the prediction's own, its first. Guidance
        asks again, with a damaged model, for what to lead away from (PAG, SAG, skipped layers)."""
        if self._first is None:
            return True
        return self._first.setdefault(ident, self._evaluation) == self._evaluation

    def _window(self, ident: Any) -> LatentWindow | None:
        """The part of the latent that a regional prompt is drawn on; None: all of it."""
        area = area_of(self.guider, ident)
        if area is None:
            return None
        height, width, top, left = area
        height, width = min(height, self.size[0] - top), min(width, self.size[1] - left)
        return LatentWindow(top, left, height, width)


def slice_ends(sampling: Any, slices: int) -> list[float]:
    """Sigmas at which slices of sampling end, as percent of it is meant in the stock nodes."""
    return [float(sampling.percent_to_sigma(i / slices)) for i in range(1, slices)]


def slice_of_sigma(ends: list[float], sigma: Tensor) -> Tensor:
    """Index of the slice of sampling in which a sigma lies, (1,)."""
    return (sigma.reshape(-1)[:1, None] <= sigma.new_tensor(ends)).sum(dim=1)


def _of(bias: Tensor | None, rows: slice) -> Tensor | None:
    return bias if bias is None or bias.shape[0] == 1 else bias[rows]
