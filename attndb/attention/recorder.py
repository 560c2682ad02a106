"""MapRecorder: running sums of where chosen words look, while a model draws.

Only the columns of the chosen words are kept, summed over the sampling steps in a few slices of
time, so the memory does not grow with steps, heads (unless asked for) or prompt length. The
attention matrix exists only in small chunks; log-sum-exp normalised, in fp32.

Shapes: B batch, H heads, P pixels (queries), T text tokens (keys), D head dim, E = H * D,
W words, S slices of time, K kept heads (1 = their mean).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor

from ..models.precision import full_precision
from .prompt_words import Word

_CHUNK_VALUES = {"cpu": 1 << 18}
"""Attention values held at once; small ones stay in a CPU's cache."""
_CHUNK_VALUES_ELSEWHERE = 1 << 25


@dataclass(frozen=True)
class LatentWindow:
    """The part of the latent that a regional prompt is drawn on, in latent pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class MapKey:
    """What maps can be summed: the same layer at the same size on the same part."""

    layer: str
    height: int
    width: int
    crop: LatentWindow | None = None


@dataclass
class MapSum:
    """Sums of maps by slice of time, and how many maps each slice holds."""

    total: Tensor
    """(S, B, W, K, P)."""
    count: Tensor
    """(S,)."""
    heads: int = 1
    """Attention heads that were averaged, or kept."""

    def cpu(self) -> MapSum:
        return MapSum(self.total.cpu(), self.count.cpu(), self.heads)


@dataclass
class AttentionRecord:
    """What a MapRecorder found in one sampling run."""

    words: tuple[Word, ...]
    slices: int
    """Number of equal slices of the noise schedule, from pure noise (first) to none."""
    keep_heads: bool
    latent_size: tuple[int, int]
    """Height and width of the latent."""
    sums: dict[MapKey, MapSum] = field(default_factory=dict)

    def add(self, other: AttentionRecord) -> AttentionRecord:
        """Both runs as one: the second went on where the first stopped."""
        sums = dict(self.sums)
        for key, found in other.sums.items():
            mine = sums.get(key)
            if mine is None or mine.total.shape != found.total.shape:
                sums[key] = found
                continue
            sums[key] = MapSum(mine.total + found.total, mine.count + found.count, mine.heads)
        return AttentionRecord(self.words, self.slices, self.keep_heads, other.latent_size, sums)

    def select(self, samples: Sequence[int]) -> AttentionRecord:
        """The record of some samples of the batch, in the given order."""
        index = torch.tensor(list(samples), dtype=torch.long)
        sums = {
            key: MapSum(found.total[:, index], found.count, found.heads)
            for key, found in self.sums.items()
        }
        return AttentionRecord(self.words, self.slices, self.keep_heads, self.latent_size, sums)

    def concat(self, other: AttentionRecord) -> AttentionRecord:
        """The samples of two records of the same kind behind each other."""
        if self.sums.keys() != other.sums.keys():
            raise ValueError(
                "pictures of different sizes or samplers cannot share one grid: use one "
                "Attention Maps node for each"
            )
        sums = {}
        for key, mine in self.sums.items():
            yours = other.sums[key]
            if torch.equal(mine.count, yours.count):
                total = torch.cat([mine.total, yours.total], dim=1)
                sums[key] = MapSum(total, mine.count, mine.heads)
                continue
            # Sums of unlike many steps: bring both to means, then to one count.
            total = torch.cat([_means(mine), _means(yours)], dim=1)
            both = ((mine.count > 0) & (yours.count > 0)).float()
            sums[key] = MapSum(total, both, mine.heads)
        return AttentionRecord(self.words, self.slices, self.keep_heads, self.latent_size, sums)

    @property
    def bytes(self) -> int:
        """Memory in use."""
        return sum(found.total.nbytes for found in self.sums.values())


def _means(found: MapSum) -> Tensor:
    return found.total / found.count.clamp(min=1)[:, None, None, None, None]


class MapRecorder:
    """Gathers an AttentionRecord from the queries and keys of a model that draws."""

    def __init__(
        self,
        words: Sequence[Word],
        *,
        latent_size: tuple[int, int],
        slices: int = 10,
        keep_heads: bool = False,
    ) -> None:
        if not words:
            raise ValueError("words is empty: a recorder needs at least one word")
        if slices < 1:
            raise ValueError(f"slices = {slices}: use 1 or more")
        self._record = AttentionRecord(tuple(words), slices, keep_heads, latent_size)
        self._gather: dict[tuple[object, ...], Tensor] = {}
        self._lock = threading.Lock()

    def add(
        self,
        key: MapKey,
        q_BPE: Tensor,
        k_BTE: Tensor,
        heads: int,
        *,
        slice_index: Tensor,
        first_column: int = 0,
        period: int | None = None,
        text_tokens: int | None = None,
        bias_BHPT: Tensor | None = None,
    ) -> None:
        """Adds one layer's maps of one model call.

        `first_column` is where the prompt begins on the key axis. A host may pad the text by
        repeating it, which leaves the output as it was but parts each column into several:
        `period` is the length before that; the copies are added up. `text_tokens` is the length
        after it; keys behind that are not text (other nodes append some). `bias_BHPT` is added
        before the softmax, or, of bools, says which keys may be seen; B, H and P may be 1.
        """
        text_tokens = text_tokens or k_BTE.shape[1]
        gather_TW = self._columns(k_BTE, first_column, period or text_tokens, text_tokens)
        maps_BWKP = word_maps(
            q_BPE,
            k_BTE,
            heads,
            gather_TW,
            keep_heads=self._record.keep_heads,
            bias_BHPT=bias_BHPT,
        )
        with self._lock:  # a host may draw on several devices at once
            found = self._record.sums.get(key)
            if found is None:
                slices = self._record.slices
                found = self._record.sums[key] = MapSum(
                    maps_BWKP.new_zeros((slices, *maps_BWKP.shape)),
                    maps_BWKP.new_zeros(slices),
                    heads,
                )
            assert found.total.shape[1:] == maps_BWKP.shape, "the batch changed in one run"
            device = found.total.device
            index = slice_index.to(device)
            # No host-device sync: the slice is chosen on the device.
            found.total.index_add_(0, index, maps_BWKP.to(device)[None])
            found.count.index_add_(0, index, torch.ones(1, device=device))

    def finish(self) -> AttentionRecord:
        """The record, on the CPU; the recorder is empty afterwards."""
        record = self._record
        sums = {key: found.cpu() for key, found in record.sums.items()}
        record.sums = {}
        self._gather.clear()
        return AttentionRecord(
            record.words, record.slices, record.keep_heads, record.latent_size, sums
        )

    def _columns(self, k_BTE: Tensor, first_column: int, period: int, text_tokens: int) -> Tensor:
        """0/1 matrix (T, W) that adds up the columns of each word."""
        tokens = k_BTE.shape[1]
        cache_key = (tokens, first_column, period, text_tokens, k_BTE.device)
        if cache_key not in self._gather:
            gather_TW = torch.zeros(tokens, len(self._record.words))
            for w, word in enumerate(self._record.words):
                for column in word.columns:
                    place = first_column + column
                    if place >= period:
                        raise ValueError(
                            f"the word {word.label!r} stands at token {column}, but the "
                            f"conditioning has only {period - first_column}: the prompt of the "
                            "capture is not the prompt that is drawn"
                        )
                    gather_TW[place:text_tokens:period, w] = 1.0
            self._gather[cache_key] = gather_TW.to(k_BTE.device)
        return self._gather[cache_key]


@torch.no_grad()
def word_maps(
    q_BPE: Tensor,
    k_BTE: Tensor,
    heads: int,
    gather_TW: Tensor,
    *,
    keep_heads: bool = False,
    bias_BHPT: Tensor | None = None,
) -> Tensor:
    """Sums of columns of softmax(Q K^T / sqrt(D) + bias), each times its weight in a matrix (T, W),
    of 0 and 1 to choose some; fp32.

    Shape (B, W, K, P): K is `heads` with `keep_heads`, else 1, their mean.
    """
    pixels, tokens = q_BPE.shape[1], k_BTE.shape[1]
    k_BHDT = rearrange(k_BTE.float(), "b t (h d) -> b h d t", h=heads)
    k_BHDT = k_BHDT * k_BHDT.shape[2] ** -0.5
    budget = _CHUNK_VALUES.get(q_BPE.device.type, _CHUNK_VALUES_ELSEWHERE)
    rows = max(1, budget // (q_BPE.shape[0] * heads * tokens))
    parts = []
    with full_precision(q_BPE.device):
        for start in range(0, pixels, rows):
            part_BPE = q_BPE[:, start : start + rows].float()
            part_BHPD = rearrange(part_BPE, "b p (h d) -> b h p d", h=heads)
            logits_BHPT = part_BHPD @ k_BHDT
            if bias_BHPT is not None:
                each = bias_BHPT.shape[2] > 1
                logits_BHPT = _biased(
                    logits_BHPT, bias_BHPT[:, :, start : start + rows] if each else bias_BHPT
                )
            attention_BHPT = logits_BHPT.softmax(dim=-1)
            if not keep_heads:
                attention_BHPT = attention_BHPT.mean(dim=1, keepdim=True)
            parts.append(rearrange(attention_BHPT @ gather_TW, "b k p w -> b w k p"))
    return torch.cat(parts, dim=-1)


def _biased(logits: Tensor, bias: Tensor) -> Tensor:
    if bias.dtype == torch.bool:
        return logits.masked_fill(~bias, float("-inf"))
    return logits + bias.float()
