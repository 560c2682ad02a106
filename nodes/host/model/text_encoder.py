"""TextEncoder: a private, differentiable copy of one of the host's CLIP text models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.clip_model import CLIPLayer
from torch import Tensor, nn

from ....attndb.data.tokens import TokenizedText
from ....attndb.memory.meta_trace import META, on_meta_device
from ....attndb.models.placement import place
from ....attndb.models.space_time_mapper import bypassed
from .placeholders import encoder_names
from .weights import merged_weights, private_copy


class TrainableLayer(CLIPLayer):
    """The host's CLIP layer without its in-place additions, which break the backward pass."""

    def forward(
        self, x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None
    ) -> Tensor:
        """Hidden states after the layer."""
        x = x + self.self_attn(self.layer_norm1(x), mask, optimized_attention)
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder:
    """A private, differentiable copy of one of the host's CLIP text models."""

    def __init__(self, model: Any, padding: tuple[int, int] | None = None) -> None:
        """`model`: a private SDClipModel of the host; its layers are made out-of-place. `padding`:
        its end token and what comes after that, where prompts are filled up for another encoder."""
        self.model = model
        self.padding = padding
        self._device: torch.device | None = None
        for module in model.modules():
            if isinstance(module, CLIPLayer):
                module.__class__ = TrainableLayer

    @classmethod
    def from_clip(cls, clip: Any, name: str, device: torch.device) -> TextEncoder:
        """A text encoder of a CLIP wire, its patches merged, its clip skip kept. It waits in main
        memory until it is sent to a device (`to`)."""
        weights = merged_weights(clip.patcher, f"{name}.")
        model = private_copy(getattr(clip.cond_stage_model, name), weights, torch.device("cpu"))
        model.reset_clip_options()
        if clip.layer_idx is not None:
            model.set_clip_options({"layer": clip.layer_idx})
        model.set_clip_options({"execution_device": device})
        inner = getattr(clip.tokenizer, name)
        first = name == encoder_names(clip.tokenizer)[0]
        return cls(model, None if first else (inner.end_token, inner.pad_token))

    def encode(self, prompt: TokenizedText, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Text states (1, T, D) and pooled text (1, D) of a prompt, differentiable in the
        placeholder's vectors."""
        rows = iter(vectors)
        ids = prompt.tokens if self.padding is None else prompt.padded(*self.padding)
        tokens = [next(rows) if token is None else token for token in ids]
        states, pooled = self.model([tokens])
        return states, pooled

    def encode_words(
        self, prompts: Sequence[TokenizedText], vectors: Tensor, bypass: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Text states (N, T, D) of prompts for keys and for values, each prompt with vectors of its
        own (N, V, D), and with a bypass (N, V, D) of the text encoder or without one."""
        tokens = []
        for prompt, own in zip(prompts, vectors, strict=True):
            given = iter(own)
            tokens.append([next(given) if token is None else token for token in prompt.tokens])
        seen: list[Tensor] = []
        handle = self.final_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            keys_NTD = self.model(tokens)[0]
        finally:
            handle.remove()
        if bypass is None:
            return keys_NTD, keys_NTD
        # the host normalises the last layer's states first, and then those of an earlier one
        state_NTD = seen[0 if self.model.layer == "last" else -1]
        places = [
            (n, place)
            for n, prompt in enumerate(prompts)
            for place, token in enumerate(prompt.tokens)
            if token is None
        ]
        index = tuple(torch.tensor(places, device=state_NTD.device).T)
        changed = bypassed(state_NTD[index].float(), bypass.flatten(0, 1))
        changed = self.final_norm(changed.to(state_NTD.dtype)).to(keys_NTD.dtype)
        return keys_NTD, keys_NTD.index_put(index, changed)

    @property
    def final_norm(self) -> nn.Module:
        """The normalisation that states go through last."""
        return self.model.transformer.text_model.final_layer_norm

    def rows(self, token_ids: tuple[int, ...]) -> Tensor:
        """Token embeddings (len(token_ids), D), fp32."""
        table = self.model.transformer.get_input_embeddings().weight
        return table[list(token_ids)].detach().clone().float()

    def on_meta_device(self) -> TextEncoder:
        """The same on the meta device, to stay there."""
        return TextEncoder(on_meta_device(self.model), self.padding).to(META)

    def to(self, device: torch.device) -> TextEncoder:
        """Moves the model, unless it is there; encodes there from now on."""
        if self._device not in (device, META):
            place(self.model, device)
            self.model.set_clip_options({"execution_device": device})
            self._device = device
        return self
