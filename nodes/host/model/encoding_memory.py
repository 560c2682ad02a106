"""What a VAE takes to encode a photo: its weights, and for a while its activations.

Traced on the meta device as a training step is (attndb/memory/meta_trace.py): the host's own figure
(`memory_used_encode`) is made to be safe, and three times as much.

Shapes: B pictures, C channels, P pixels of the coarsest level.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ....attndb.memory.meta_trace import META, MetaTrace, on_meta_device, unique_bytes
from .encoding import encoder_device
from .weights import bare_copy

log = logging.getLogger(__name__)


def encoder_bytes(vae: Any, device: torch.device) -> int:
    """Of the weights that the host keeps on the device while photos are encoded; none of a VAE
    that works elsewhere (--cpu-vae)."""
    module = _module_on(vae, device)
    return 0 if module is None else unique_bytes(module.parameters())


def encoding_bytes(vae: Any, device: torch.device, resolution: int) -> int:
    """The most that encoding one photo of this side holds on the device besides the weights; 0
    where that is not known."""
    module = _module_on(vae, device)
    if module is None:
        return 0
    try:
        return _traced(module, getattr(vae, "vae_dtype", torch.float32), device, resolution)
    except Exception:  # a VAE of another kind: the rest of the estimate stands
        log.debug("what encoding a photo takes is not known", exc_info=True)
        return 0


def _module_on(vae: Any, device: torch.device) -> nn.Module | None:
    module = getattr(vae, "first_stage_model", None)
    here = encoder_device(vae, device).type == device.type
    return module if here and isinstance(module, nn.Module) else None


def _traced(module: nn.Module, dtype: torch.dtype, device: torch.device, resolution: int) -> int:
    twin: Any = on_meta_device(bare_copy(module)).to(dtype)
    parts: list[Any] = list(twin.modules())
    for part in parts:
        if hasattr(part, "comfy_cast_weights"):
            part.comfy_cast_weights, part.weight_function, part.bias_function = False, [], []
        attention = getattr(part, "optimized_attention", None)
        if attention is not None:  # the host's asks the device for what is free
            split = getattr(attention, "__name__", "") == "normal_attention"
            part.optimized_attention = _written_out if split else _fused
    held = [*twin.parameters(), *twin.buffers()]
    with torch.inference_mode(False), torch.no_grad(), MetaTrace(device, held) as trace:
        twin.encode(torch.empty(1, 3, resolution, resolution, dtype=dtype, device=META))
    return trace.peak


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as the host has it from PyTorch or xformers."""
    q_B1PC, k_B1PC, v_B1PC = (
        rearrange(t, "b c ... -> b 1 (...) c").contiguous() for t in (q, k, v)
    )
    out_B1PC = nn.functional.scaled_dot_product_attention(q_B1PC, k_B1PC, v_B1PC)
    return out_B1PC.transpose(2, 3).reshape(q.shape)


def _written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As the host splits it, in one piece: with less free memory it takes less."""
    q_BPC, k_BCP, v_BCP = q.flatten(2).transpose(1, 2), k.flatten(2), v.flatten(2)
    out_BCP = torch.zeros_like(k_BCP)
    scores_BPP = torch.bmm(q_BPC, k_BCP) * q.shape[1] ** -0.5
    attention_BPP = scores_BPP.softmax(dim=2).transpose(1, 2)
    del scores_BPP
    out_BCP.copy_(torch.bmm(v_BCP, attention_BPP))
    return out_BCP.reshape(q.shape)
