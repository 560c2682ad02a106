"""CrossAttentionTap: column statistics of the forward pass that the U-Net makes anyway.

The U-Net runs its own (fused) attention; forward hooks on `attn2.to_q` and `attn2.to_k` see the
same queries and keys.

Shapes: B batch, P pixels (queries), T text tokens (keys), E width, C chosen columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..models.cross_attention import CrossAttentionLayer
from .column_statistics import column_statistics
from .map_statistics import MapStatistics


class CrossAttentionTap:
    """Watches some cross-attention layers of a private U-Net and gathers column statistics.

    Layers are told apart by module, and a layer seen again replaces its entry instead of adding
    one. Where gradient checkpointing recomputes a forward in the backward pass, statistics are
    computed, for that graph has to be the same, and dropped: kept, they would hold the recomputed
    activations of their block to the end of the step.
    """

    def __init__(self, layers: Iterable[CrossAttentionLayer]) -> None:
        self._layers = list(layers)
        self._columns_BC: Tensor | None = None
        self._queries: dict[str, Tensor] = {}
        self._found: dict[str, MapStatistics] | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> CrossAttentionTap:
        for layer in self._layers:
            self._handles.append(layer.module.to_q.register_forward_hook(self._on_query(layer)))
            self._handles.append(layer.module.to_k.register_forward_hook(self._on_key(layer)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.rest()

    @contextmanager
    def watching(self, columns_BC: Tensor) -> Iterator[Mapping[str, MapStatistics]]:
        """Statistics by layer name of the forward pass made inside; (B, C) token columns."""
        self._columns_BC = columns_BC
        self._found = found = {}
        try:
            yield found
        finally:
            self._queries.clear()
            self._found = None

    def rest(self) -> None:
        """Until the next `watching` the layers are left alone, whoever calls them."""
        self._columns_BC = None
        self._queries.clear()
        self._found = None

    def _on_query(self, layer: CrossAttentionLayer) -> Any:
        def hook(_module: nn.Module, _inputs: Any, q_BPE: Tensor) -> None:
            if self._columns_BC is not None:
                self._queries[layer.name] = q_BPE

        return hook

    def _on_key(self, layer: CrossAttentionLayer) -> Any:
        def hook(_module: nn.Module, _inputs: Any, k_BTE: Tensor) -> None:
            q_BPE = self._queries.pop(layer.name, None)
            if q_BPE is None or self._columns_BC is None:
                return
            statistics = column_statistics(q_BPE, k_BTE, self._columns_BC, layer.heads)
            if self._found is not None:
                self._found[layer.name] = statistics

        return hook
