"""A LoRA as kohya sd-scripts names its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def kohya_lora(model: Any, blocks: str) -> dict[str, Tensor]:
    """Rank 4, alpha 2, of every to_k of attn2 in the blocks of a MODEL whose names begin so."""
    import comfy.lora

    state, tensors = model.model.state_dict(), {}
    generator = torch.Generator().manual_seed(2)
    for theirs, ours in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        if theirs.startswith(blocks) and theirs.endswith("attn2_to_k"):
            out, width = state[ours].shape
            tensors[f"{theirs}.lora_up.weight"] = torch.randn(out, 4, generator=generator)
            tensors[f"{theirs}.lora_down.weight"] = 0.1 * torch.randn(4, width, generator=generator)
            tensors[f"{theirs}.alpha"] = torch.tensor(2.0)
    assert tensors
    return tensors
