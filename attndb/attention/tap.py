"""CrossAttentionTap: column statistics of the forward pass that the U-Net makes anyway.

The U-Net runs its own (fused) attention; the tap observes the same queries and keys.

Shapes: B batch, P pixels (queries), T text tokens (keys), E width, C chosen columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from ..models.protocol import Handle, See, TextAttention
from .column_statistics import column_statistics
from .map_statistics import MapStatistics


class CrossAttentionTap:
    """Observes some text attention layers of a private model and gathers column statistics.

    Layers are told apart by name, and a layer seen again replaces its entry instead of adding
    one. Where gradient checkpointing recomputes a forward in the backward pass, statistics are
    computed, for that graph has to be the same, and dropped: kept, they would hold the recomputed
    activations of their block to the end of the step.
    """

    def __init__(self, layers: Iterable[TextAttention]) -> None:
        self._layers = list(layers)
        self._columns_BC: Tensor | None = None
        self._found: dict[str, MapStatistics] | None = None
        self._handles: list[Handle] = []

    def __enter__(self) -> CrossAttentionTap:
        self._handles += [layer.observe(self._sees(layer)) for layer in self._layers]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.pause()

    @contextmanager
    def watching(self, columns_BC: Tensor) -> Iterator[Mapping[str, MapStatistics]]:
        """Statistics by layer name of the forward pass made inside; (B, C) token columns."""
        self._columns_BC = columns_BC
        self._found = found = {}
        try:
            yield found
        finally:
            self._found = None
            self._forget()

    def pause(self) -> None:
        """Until the next `watching` nothing is computed, whoever calls the layers."""
        self._columns_BC = None
        self._found = None
        self._forget()

    def _forget(self) -> None:
        for handle in self._handles:
            handle.forget()

    def _sees(self, layer: TextAttention) -> See:
        def see(q_BPE: Tensor, k_BTE: Tensor) -> None:
            if self._columns_BC is None:
                return
            statistics = column_statistics(q_BPE, k_BTE, self._columns_BC, layer.heads)
            if self._found is not None:
                self._found[layer.name] = statistics

        return see
