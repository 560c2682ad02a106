"""CrossAttentionTap: column statistics of the forward pass that the U-Net makes anyway.

The U-Net runs its own (fused) attention; the tap observes the same queries and keys.

Shapes: B batch, P pixels (queries), T text tokens (keys), E width, C chosen columns, Y X pixels of
the latent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ..models.protocol import Handle, See, TextAttention
from .column_statistics import column_statistics
from .layer_size import layer_size
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
        self._subject_B1YX: Tensor | None = None
        self._weights: dict[int, Tensor] = {}
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
    def watching(
        self, columns_BC: Tensor, subject_B1YX: Tensor | None = None
    ) -> Iterator[Mapping[str, MapStatistics]]:
        """Statistics by layer name of the forward pass made inside; (B, C) token columns.
        `subject_B1YX`: what each pixel of the latent counts in them; None: all alike."""
        self._columns_BC, self._subject_B1YX = columns_BC, subject_B1YX
        self._weights.clear()
        self._found = found = {}
        try:
            yield found
        finally:
            self._found = None
            self._forget()

    def pause(self) -> None:
        """Until the next `watching` nothing is computed, whoever calls the layers."""
        self._columns_BC = self._subject_B1YX = None
        self._weights.clear()
        self._found = None
        self._forget()

    def _forget(self) -> None:
        for handle in self._handles:
            handle.forget()

    def _sees(self, layer: TextAttention) -> See:
        def see(q_BPE: Tensor, k_BTE: Tensor) -> None:
            if self._columns_BC is None:
                return
            weights_BP = self._weights_of(q_BPE.shape[1])
            statistics = column_statistics(q_BPE, k_BTE, self._columns_BC, layer.heads, weights_BP)
            if self._found is not None:
                self._found[layer.name] = statistics

        return see

    def _weights_of(self, pixels: int) -> Tensor | None:
        """(B, P) of a layer's pixels: the share of subject in each."""
        if self._subject_B1YX is None:
            return None
        if pixels not in self._weights:
            height, width = self._subject_B1YX.shape[-2:]
            size = layer_size((height, width), pixels)
            self._weights[pixels] = adaptive_avg_pool2d(self._subject_B1YX, size).flatten(1)
        return self._weights[pixels]
