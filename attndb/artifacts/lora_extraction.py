"""LoRA extraction: every weight change as the product of two thin matrices that is nearest to it.

By the Eckart-Young theorem that is the truncated singular value decomposition. For a rank well
below a weight's own it is found by a seeded randomised range finder with power iterations (Halko,
Martinsson and Tropp 2011, algorithms 4.4 and 5.1), else exactly.

Shapes: O output features, I input features (times the kernel, for a convolution), R rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from .concept import TrainedConcept
from .weight_delta import LowRank, WeightDelta, cast_delta, dense

_OVERSAMPLING = 16
_POWER_ITERATIONS = 3
_FIRST_TRY = 32
"""Rank that is tried first where an energy is asked for; doubled until it is enough."""


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig:
    """How thin the matrices are."""

    rank: int = 32
    """Largest rank of a weight; a weight that has less keeps its own."""
    energy: float = 0.0
    """Share of a change's squared norm that is kept at least, as far as `rank` allows: every weight
    has the smallest rank that does. 0: all of `rank`."""
    keep_vectors: bool = False
    """Biases and norms, which are no matrices, stay whole; else they are left out, as programs want
    it that know a LoRA as pairs of matrices alone."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank = {self.rank}: use 1 or more, 32 for example")
        if not 0.0 <= self.energy <= 1.0:
            raise ValueError(f"energy = {self.energy}: use 0 (off) to 1, 0.9 for example")


@dataclass(frozen=True, kw_only=True)
class ExtractedLayer:
    """What became of one weight's change."""

    name: str
    shape: tuple[int, ...]
    rank: int | None
    """None: a bias or norm, kept whole or left out."""
    norm: float
    """Of the change (Frobenius)."""
    error: float
    """Norm of what is missing."""

    @property
    def relative(self) -> float:
        """The error as a share of the norm."""
        return self.error / self.norm if self.norm else 0.0


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """A thin change, and how far it is from the whole one."""

    delta: dict[str, WeightDelta]
    layers: tuple[ExtractedLayer, ...]

    @property
    def error(self) -> float:
        """Relative error of all weights together (Frobenius)."""
        norm = math.hypot(*(layer.norm for layer in self.layers))
        return math.hypot(*(layer.error for layer in self.layers)) / norm if norm else 0.0


def extract_lora(
    delta: Mapping[str, WeightDelta],
    config: ExtractionConfig,
    done: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """The change as factors of low rank, in its own precision. The same change gives the same
    bytes; `done` is told after every weight, and may raise."""
    kept: dict[str, WeightDelta] = {}
    layers = []
    for number, (name, change) in enumerate(sorted(delta.items()), start=1):
        thin = _thin(name, change, config)
        if thin is not None:
            kept[name] = thin
        layers.append(_compared(name, change, thin))
        done(number, len(delta))
    return Extraction(delta=kept, layers=tuple(layers))


def extract_concept(
    concept: TrainedConcept,
    config: ExtractionConfig,
    done: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[TrainedConcept, Extraction]:
    """A concept with its change as low-rank factors, its record saying so. ValueError if it changes
    no weights."""
    if not concept.delta:
        raise ValueError(
            f"the concept {concept.placeholder} changes no weights (an embedding alone): connect "
            "one from stage 2 or 3"
        )
    extraction = extract_lora(concept.delta, config, done)
    made = {**asdict(config), "relative_error": extraction.error}
    record = {**concept.record, "extraction": made}
    return replace(concept, delta=extraction.delta, record=record), extraction


def _thin(name: str, change: WeightDelta, config: ExtractionConfig) -> WeightDelta | None:
    if len(change.shape) < 2:
        return change if config.keep_vectors else None
    whole = dense(change).flatten(1)
    if not bool(whole.isfinite().all()):
        raise ValueError(
            f"{name} holds NaN or infinite values: restore the concept's file, or train it again"
        )
    most = min(config.rank, *whole.shape)
    if isinstance(change, LowRank):
        if change.up.shape[1] <= most and not config.energy:
            return change
        most = min(most, change.up.shape[1])
    factors = _factors(whole, most, config.energy, _generator(name))
    if factors is None:  # nothing was changed
        return None
    return cast_delta(LowRank(*factors, tuple(change.shape)), change.dtype)


def _generator(name: str) -> torch.Generator:
    """Decided by the weight's name alone."""
    digest = hashlib.sha256(f"extract/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _factors(
    whole_OI: Tensor, most: int, energy: float, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """Up (O, R) and down (R, I) with R at most `most`; None for a change of nothing."""
    total = float(whole_OI.double().square().sum())
    if total == 0.0:
        return None
    for tried in _tries(most, energy):
        u_OR, s_R, v_RI = truncated_svd(whole_OI, tried, generator)
        held = s_R.double().square().cumsum(0)
        if not energy:
            break
        if tried == most or float(held[-1]) >= energy * total:
            enough = int((held < energy * total).sum()) + 1
            rank = min(enough, len(s_R))
            u_OR, s_R, v_RI = u_OR[:, :rank], s_R[:rank], v_RI[:rank]
            break
    root_R = s_R.sqrt()  # both factors equally large: neither leaves the range of fp16
    return u_OR * root_R, root_R[:, None] * v_RI


def _tries(most: int, energy: float) -> Iterator[int]:
    tried = _FIRST_TRY if energy else most
    while tried < most:
        yield tried
        tried *= 2
    yield most


def truncated_svd(
    matrix: Tensor, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """U (O, R), singular values (R,) and V transposed (R, I) of the `rank` largest, in fp32."""
    matrix = matrix.float()
    if matrix.shape[0] > matrix.shape[1]:
        v, s, u = truncated_svd(matrix.T, rank, generator)
        return u.T, s, v.T
    wide = rank + _OVERSAMPLING
    if 2 * wide >= matrix.shape[0]:
        return _exact_svd(matrix, rank)
    # the range is looked for on the short side: its bases are small
    probe = torch.randn(matrix.shape[1], wide, generator=generator)
    basis, _ = torch.linalg.qr(matrix @ probe)
    for _ in range(_POWER_ITERATIONS):
        basis, _ = torch.linalg.qr(matrix.T @ basis)
        basis, _ = torch.linalg.qr(matrix @ basis)
    u, s, v = _exact_svd(basis.T @ matrix, rank)
    return basis @ u, s, v


def _exact_svd(wide: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a matrix that is at least as wide as it is high: through a small square one."""
    q, r = torch.linalg.qr(wide.T)
    v, s, u = torch.linalg.svd(r, full_matrices=False)
    return u.T[:, :rank], s[:rank], (q @ v[:, :rank]).T


def _compared(name: str, change: WeightDelta, thin: WeightDelta | None) -> ExtractedLayer:
    whole = dense(change)
    missing = whole if thin is None else whole - dense(thin)
    if thin is not None:
        rank = thin.up.shape[1] if isinstance(thin, LowRank) else None
    else:
        rank = 0 if whole.ndim >= 2 else None
    return ExtractedLayer(
        name=name,
        shape=tuple(change.shape),
        rank=rank,
        norm=float(torch.linalg.vector_norm(whole, dtype=torch.float64)),
        error=float(torch.linalg.vector_norm(missing, dtype=torch.float64)),
    )


def extraction_table(extraction: Extraction) -> str:
    """The errors as text: all weights together, then one line each."""
    matrices = [layer for layer in extraction.layers if layer.rank is not None]
    vectors = [layer for layer in extraction.layers if layer.rank is None]
    ranks = sorted(layer.rank or 0 for layer in matrices) or [0]
    lines = [
        f"all: relative error {extraction.error:.4f} (kept energy {1 - extraction.error**2:.4f}), "
        f"{len(matrices)} matrices of rank {ranks[0]} to {ranks[-1]}",
    ]
    if vectors:
        kept = "kept whole" if not any(layer.error for layer in vectors) else "left out"
        lines[0] += f", {len(vectors)} biases and norms {kept}"
    width = max((len(layer.name) for layer in matrices), default=5)
    lines.append(f"{'weight':<{width}}  {'shape':>18}  {'rank':>4}  {'error':>6}  {'energy':>6}")
    for layer in matrices:
        shape = " x ".join(map(str, layer.shape))
        energy = 1 - layer.relative**2
        lines.append(
            f"{layer.name:<{width}}  {shape:>18}  {layer.rank:>4}  {layer.relative:>6.4f}  "
            f"{energy:>6.4f}"
        )
    return "\n".join(lines)
