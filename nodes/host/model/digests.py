"""What the weights on the wires are recognised by. Hashed once per object, not once per queue."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ....attndb.artifacts.digest import tensors_digest
from .placeholders import encoder_names
from .weights import UNET_PREFIX, merged_weights

_KEPT: weakref.WeakKeyDictionary[Any, dict[tuple[str, ...], str]] = weakref.WeakKeyDictionary()
"""By the host's module, which lives as long as its weights; then by patches and purpose."""


def unet_digest(model: Any, without_concept: str = "") -> str:
    """SHA-256 of a MODEL's U-Net with its patches merged, those of one concept left out."""
    return _once(
        model,
        ("unet", without_concept),
        lambda: tensors_digest(merged_weights(model, UNET_PREFIX, without_concept)),
    )


def text_digest(clip: Any) -> str:
    """SHA-256 of the weights that text states depend on, and of SDXL its pooled text.

    Other projections are left out: checkpoints of these families need not have them, and then the
    host leaves them uninitialised.
    """
    unused = ("text_projection.weight", "logit_scale")
    names = encoder_names(clip.cond_stage_model)
    pooled = f"{names[-1]}.transformer.text_projection.weight" if len(names) > 1 else ""

    def digest() -> str:
        weights = merged_weights(clip.patcher, "")
        used = {k: v for k, v in weights.items() if k == pooled or not k.endswith(unused)}
        return tensors_digest(used)

    return _once(clip.patcher, ("text",), digest)


def autoencoder_digest(vae: Any) -> str:
    """SHA-256 of a VAE's weights."""
    return _once(vae.patcher, ("vae",), lambda: tensors_digest(merged_weights(vae.patcher, "")))


def _once(patcher: Any, purpose: tuple[str, ...], digest: Callable[[], str]) -> str:
    """A patcher's `patches_uuid` changes with its patches, and clones without new ones share it."""
    key = (str(patcher.patches_uuid), *purpose)
    kept = _KEPT.setdefault(patcher.model, {})
    if key not in kept:
        kept[key] = digest()
    return kept[key]
