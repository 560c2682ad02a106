"""Which parts of the model each method trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

MethodName = Literal["attndreambooth", "ti_dreambooth"]
TrainedPart = Literal["embedding", "cross-attention", "unet"]

TRAINED: Mapping[MethodName, Mapping[int, frozenset[TrainedPart]]] = {
    "attndreambooth": {
        1: frozenset({"embedding"}),
        2: frozenset({"cross-attention"}),
        3: frozenset({"unet"}),
    },
    "ti_dreambooth": {1: frozenset({"embedding", "unet"})},
}
"""By method and stage (paper, section 4.1). A method of one stage calls it 1."""
