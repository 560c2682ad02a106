"""What the weights on the wires are recognised by. Hashed once per object, not once per queue."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ....attndb.artifacts.digest import tensors_digest
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
    """SHA-256 of the weights that text states depend on.

    The projections are left out: checkpoints of these families need not have them, and then the
    host leaves them uninitialised.
    """
    unused = ("text_projection.weight", "logit_scale")

    def digest() -> str:
        weights = merged_weights(clip.patcher, "")
        return tensors_digest({k: v for k, v in weights.items() if not k.endswith(unused)})

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
