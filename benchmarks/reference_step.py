"""The published training step, rebuilt from public parts to be timed and compared.

diffusers' U-Net with explicit attention in every layer, the regulariser over the maps that the
cross-attention layers keep, transformers' text encoder and diffusers' autoencoder at every step,
PyTorch's AdamW, fp32. As published, the text encoder is not frozen: its gradients are computed and
never used, and statistics are taken of all 77 tokens' maps.

Shapes: B batch, C latent channels, Y X latent pixels, H heads, P pixels, T tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from .diffusers_layers import diffusers_layers
from .sizes import (
    CATEGORY,
    FIRST_NEW_ID,
    PLACEHOLDER,
    PROMPT,
    TOKENS,
    Inputs,
    Size,
    Weights,
    autoencoder_of,
)

REGULARIZATION = {1: (0.1, 0.0), 2: (2.0, 5.0), 3: (2.0, 5.0)}
"""lambda_mu and lambda_sigma by stage (docs/formulas.md, The three stages)."""
RATES = {1: 1e-3, 2: 2e-5, 3: 2e-6}


class KeepingProcessor:
    """Explicit cross-attention that keeps its probabilities, (B, T, H, P), for the regulariser."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> Tensor:
        assert attn.to_k and attn.to_v and attn.to_out  # only some kinds of attention lack them
        q = attn.head_to_batch_dim(attn.to_q(hidden_states))
        k = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        v = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probabilities = attn.get_attention_scores(q, k)  # (B H, P, T)
        self.maps.append(probabilities.unflatten(0, (-1, attn.heads)).permute(0, 3, 1, 2))
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probabilities, v)))


def published_unet(
    config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> UNet2DConditionModel:
    """diffusers' U-Net with the weights of ComfyUI's, explicit attention in every layer."""
    channels = [config["model_channels"] * mult for mult in config["channel_mult"]]
    depth, attends = list(config["transformer_depth"]), []
    for blocks in config["num_res_blocks"]:
        attends.append(depth[0] > 0)
        depth = depth[blocks:]
    width = config["num_head_channels"]
    heads = [c // width for c in channels] if width > 0 else config["num_heads"]
    shape: dict[str, Any] = {  # lists, as in diffusers' own files; it declares tuples
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "layers_per_block": list(config["num_res_blocks"]),
        "attention_head_dim": heads,  # diffusers' historical name for the number of heads
    }
    unet = UNet2DConditionModel(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        cross_attention_dim=config["context_dim"],
        use_linear_projection=config["use_linear_in_transformer"],
        **shape,
    )
    names = diffusers_layers(config)
    unet.load_state_dict({name: weights[names[name]] for name in unet.state_dict()})
    return unet


def published_text_encoder(size: Size, weights: Mapping[str, Tensor]) -> CLIPTextModel:
    """transformers' text encoder with one more row, for the placeholder."""
    layers = size.clip["num_hidden_layers"] - size.clip_skip
    model = CLIPTextModel(CLIPTextConfig(**{**size.clip, "num_hidden_layers": layers}))
    state = {}
    for name, like in model.state_dict().items():
        key = name if name in weights else f"text_model.{name}"
        state[name] = weights[key] if key in weights else like
    model.load_state_dict(state)
    model.resize_token_embeddings(FIRST_NEW_ID + 1, mean_resizing=False)
    return model.eval()


class PublishedModel:
    """U-Net, text encoder and autoencoder on a device; each stage's step trains the same ones."""

    def __init__(self, size: Size, weights: Weights, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.unet = published_unet(size.unet, weights.unet)
        self.text = published_text_encoder(size, weights.text)
        for module in (self.unet, self.text):
            nn.Module.to(module, device)  # their own `to` hides its types
        self.autoencoder = autoencoder_of(size).to(device).requires_grad_(False).eval()
        self.scheduler = DDPMScheduler(
            num_train_timesteps=1000,
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
        )
        self.keeper = KeepingProcessor()
        processors: dict[str, Any] = {
            name: self.keeper if ".attn2." in name else AttnProcessor()
            for name in self.unet.attn_processors
        }
        self.unet.set_attn_processor(processors)

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents of pictures in -1..1, drawn and scaled as published."""
        encoded = self.autoencoder.encode(pixels)
        if isinstance(encoded, Tensor):
            return encoded
        return encoded.latent_dist.sample() * self.autoencoder.config.scaling_factor


class PublishedStep:
    """One stage of the published recipe on a PublishedModel."""

    def __init__(
        self, model: PublishedModel, stage: int, vector: Tensor, autocast: bool = False
    ) -> None:
        """`vector`: the placeholder's embedding, (D,). `autocast`: bf16, for comparison."""
        self.model = model
        self.mean_weight, self.variance_weight = REGULARIZATION[stage]
        self._autocast = autocast
        self.learns_vector = stage == 1
        self.vector = nn.Parameter(vector.detach().clone().to(model.device))
        embedding = model.text.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)
        with torch.no_grad():
            embedding.weight[FIRST_NEW_ID] = self.vector
        model.unet.requires_grad_(stage == 3)
        if stage == 2:
            for name, parameter in model.unet.named_parameters():
                parameter.requires_grad_(".attn2." in name)
        trained = [p for p in model.unet.parameters() if p.requires_grad]
        self.trainable = [self.vector] if self.learns_vector else trained
        table = [embedding.weight] if self.learns_vector else []
        self.unused = [p for p in model.text.parameters() if all(p is not t for t in table)]
        """The text encoder gets gradients that no one uses or clears."""
        self.optimizer = torch.optim.AdamW(
            self.trainable,
            lr=RATES[stage],
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=1e-2,
        )
        ids = torch.tensor(PROMPT + (PROMPT[-1],) * (TOKENS - len(PROMPT)))
        self._ids_BT = ids.expand(model.size.batch, -1).to(model.device)

    def step(self, inputs: Inputs) -> float:
        """The whole step as published, pictures in; the loss before the update."""
        with self._context():
            latents = self.model.encode(inputs.pixels.to(self.model.device))
            loss = self.loss(latents, inputs)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def loss(self, latents: Tensor, inputs: Inputs) -> Tensor:
        """L_diff + L_reg of latents that are there already."""
        model, device = self.model, self.model.device
        noise = inputs.noise.to(device)
        t: Any = inputs.timesteps.to(device)  # int64; diffusers declares IntTensor, which is int32
        z_t = model.scheduler.add_noise(latents.to(device), noise, t)
        context_BTD = self._encode_text()
        model.keeper.maps.clear()
        prediction = model.unet(z_t, t, context_BTD).sample
        denoising = F.mse_loss(prediction.float(), noise.float())
        return denoising + self._regularization()

    def _encode_text(self) -> Tensor:
        if not self.learns_vector:
            return self.model.text(self._ids_BT).last_hidden_state

        def put_vector(_module: nn.Module, _inputs: Any, embedded_BTD: Tensor) -> Tensor:
            embedded_BTD = embedded_BTD.detach().clone()
            embedded_BTD[:, PLACEHOLDER] = self.vector.to(embedded_BTD.dtype)
            return embedded_BTD

        handle = self.model.text.get_input_embeddings().register_forward_hook(put_vector)
        try:
            return self.model.text(self._ids_BT).last_hidden_state
        finally:
            handle.remove()

    def _regularization(self) -> Tensor:
        maps = self.model.keeper.maps
        total = torch.zeros((), device=self.model.device)
        for map_BTHP in maps:
            mean_BT = map_BTHP.mean(dim=(2, 3))
            variance_BT = map_BTHP.var(dim=(2, 3))
            for mean_T, variance_T in zip(mean_BT, variance_BT, strict=True):
                mean_loss = F.mse_loss(mean_T[PLACEHOLDER], mean_T[CATEGORY])
                variance_loss = F.mse_loss(variance_T[PLACEHOLDER], variance_T[CATEGORY])
                total = total + mean_loss * self.mean_weight + variance_loss * self.variance_weight
        count = len(maps)
        maps.clear()
        return total / count

    def _context(self) -> Any:
        if not self._autocast:
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=torch.bfloat16)
