"""AdapterMetadata: what diffusers tells of a LoRA beside its tensors, its alpha above all.

diffusers writes no `.alpha` tensors: PEFT's settings lie as JSON in the metadata of the file, each
under the part of the model that it is of. A file without them has the scale 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .concept import ConceptFileError

KEY = "lora_adapter_metadata"
_PART = "unet."


@dataclass(frozen=True)
class AdapterMetadata:
    """PEFT's settings of a U-Net's LoRA, as far as they scale it."""

    alpha: float | None = None
    """Of all weights; None: as the rank, so that nothing is scaled."""
    patterns: Mapping[str, float] = field(default_factory=dict)
    """Another alpha for the weights whose path ends so (PEFT's `alpha_pattern`)."""
    by_root: bool = False
    """Whether alpha is divided by the root of the rank (rsLoRA)."""

    @classmethod
    def of(cls, metadata: Mapping[str, str], file: str) -> AdapterMetadata:
        """From a file's metadata. ConceptFileError names the file if they are there and cannot be
        used."""
        if KEY not in metadata:
            return cls()
        try:
            told = json.loads(metadata[KEY])
            own = {k.removeprefix(_PART): v for k, v in told.items() if k.startswith(_PART)}
            alpha, patterns = own.get("lora_alpha"), own.get("alpha_pattern") or {}
            return cls(
                None if alpha is None else _number(alpha),
                {str(path): _number(value) for path, value in patterns.items()},
                bool(own.get("use_rslora", False)),
            )
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ConceptFileError(
                f"{file}: its {KEY}, which says how strong it is, cannot be read ({error}); "
                "restore the file from where it came"
            ) from error

    def scale(self, path: str, rank: int) -> float:
        """What the product of the factors of a weight of this path is multiplied by."""
        path = path.removeprefix(_PART)
        fitting = (a for end, a in self.patterns.items() if f".{path}".endswith(f".{end}"))
        alpha = next(fitting, self.alpha)
        if alpha is None:
            return 1.0
        return alpha / math.sqrt(rank) if self.by_root else alpha / rank


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
