"""What the weights on the wires are recognised by. Hashed once per object, not once per queue."""

from __future__ import annotations

from typing import Any

from ....attndb.artifacts.digest import tensors_digest
from .once_read import once_read
from .placeholders import encoder_names
from .weights import UNET_PREFIX, merged_weights


def unet_digest(model: Any, without_concept: str = "") -> str:
    """SHA-256 of a MODEL's U-Net with its patches merged, those of one concept left out."""
    return once_read(
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

    return once_read(clip.patcher, ("text",), digest)


def autoencoder_digest(vae: Any) -> str:
    """SHA-256 of a VAE's weights."""
    return once_read(vae.patcher, ("vae",), lambda: tensors_digest(merged_weights(vae.patcher, "")))
