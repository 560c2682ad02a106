"""An independent plain training loop, recorded in the format that tests/parity/replay.py replays.

Nothing of the pack is used: the host's U-Net with explicit attention matrices, transformers' CLIP,
torch's plain AdamW, and the formulas of the method written out.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attndreambooth.devkit.host_path import host_on_path
from attndreambooth.devkit.tiny_model import CLIP_CONFIG, UNET_CONFIG, plain_unet, random_weights

START, END, FIRST_NEW = 49406, 49407, 49408
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
ADAMW = {"name": "AdamW", "betas": [0.9, 0.999], "weight_decay": 0.01, "eps": 1e-8}
STAGES = {
    1: {"lr": 1e-3, "reg_mean_weight": 50.0, "reg_var_weight": 500.0},
    2: {"lr": 2e-5, "reg_mean_weight": 200.0, "reg_var_weight": 2000.0},
    3: {"lr": 2e-6, "reg_mean_weight": 200.0, "reg_var_weight": 2000.0},
}


def record(
    path: Path,
    *,
    unet_config: dict[str, Any] = UNET_CONFIG,
    clip_config: dict[str, Any] = CLIP_CONFIG,
    prompts: tuple[str, ...] = ("a photo of a {} doll",),
    initialize_token: str = "doll",  # noqa: S107
    n_vectors: int = 1,
    prediction_type: str = "epsilon",
    batch_size: int = 2,
    steps: tuple[int, int, int] = (3, 2, 2),
    stages: dict[int, dict[str, float]] = STAGES,
    optimizer: dict[str, Any] = ADAMW,
    schedule: dict[str, Any] = SCHEDULE,
    side: int = 8,
    seed: int = 0,
) -> Path:
    """Trains three stages and writes what went in and what came out; returns `path`.

    Several prompts take turns within a batch, so that samples differ in where their tokens stand.
    """
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    unet = plain_unet(unet_config)
    base = {key: value.half().float() for key, value in unet.state_dict().items()}
    unet.load_state_dict(base)
    maps = _keep_maps(unet)
    text, text_weights = _text_encoder(clip_config)
    rows = _embedding(text).weight[_ids(initialize_token)[:n_vectors]]
    vectors = nn.Parameter(rows.detach().clone())
    abar = _abar(schedule)
    tensors = {f"unet.{k}": v.half() for k, v in base.items()}
    tensors |= {f"text_encoder.{k}": v.half() for k, v in text_weights.items()}
    for stage in (1, 2, 3):
        before = {k: p.detach().clone() for k, p in unet.named_parameters()}
        trained = {
            1: {},
            2: {k: p for k, p in unet.named_parameters() if "attn2" in k.split(".")},
            3: dict(unet.named_parameters()),
        }[stage]
        unet.requires_grad_(False)
        vectors.requires_grad_(stage == 1)
        for parameter in trained.values():
            parameter.requires_grad_(True)
        adamw = torch.optim.AdamW(
            [vectors] if stage == 1 else list(trained.values()),
            lr=stages[stage]["lr"],
            betas=tuple(optimizer["betas"]),
            eps=optimizer["eps"],
            weight_decay=optimizer["weight_decay"],
            foreach=False,
            fused=False,
        )
        log: dict[str, list[Tensor]] = {}
        for _ in range(steps[stage - 1]):
            fed = {
                "latents": torch.randn(batch_size, 4, side, side, generator=generator),
                "noise": torch.randn(batch_size, 4, side, side, generator=generator),
                "timesteps": torch.randint(0, len(abar), (batch_size,), generator=generator),
                "input_ids": torch.stack(
                    [_prompt_ids(prompts[b % len(prompts)], n_vectors) for b in range(batch_size)]
                ),
            }
            total, attn = _loss(
                unet, text, vectors, maps, abar, fed, prediction_type, stages[stage]
            )
            adamw.zero_grad()
            total.backward()
            adamw.step()
            for key, value in {**fed, "loss": total.detach(), "attn_loss": attn.detach()}.items():
                log.setdefault(key, []).append(value)
        for key, values in log.items():
            stacked = torch.stack(values)
            tensors[f"stage{stage}.{key}"] = (
                stacked if stacked.is_floating_point() else stacked.int()
            )
        change = {k: p.detach() - before[k] for k, p in unet.named_parameters()}
        if stage == 1:
            tensors["stage1.learned_embedding"] = vectors.detach().clone()
        elif stage == 2:
            tensors |= {f"stage2.delta.{k}": change[k] for k in trained}
        else:
            chosen = [k for k in change if "middle_block" in k or k.startswith("out.")]
            tensors |= {f"stage3.delta.{k}": change[k] for k in chosen}
            tensors["stage3.delta_norms"] = torch.stack([change[k].norm() for k in sorted(change)])
    metadata = {
        "unet_config": json.dumps(unet_config),
        "clip_config": json.dumps({k: v for k, v in clip_config.items() if k != "eos_token_id"}),
        "prompt": prompts[0],
        "category": prompts[0].split()[-1],
        "initialize_token": initialize_token,
        "n_vectors": str(n_vectors),
        "prediction_type": prediction_type,
        "batch_size": str(batch_size),
        "optimizer": json.dumps(optimizer),
        "schedule": json.dumps(schedule),
        **{f"stage{k}": json.dumps(v) for k, v in stages.items()},
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(path), metadata)
    return path


def _loss(
    unet: nn.Module,
    text: nn.Module,
    vectors: Tensor,
    maps: dict[str, Tensor],
    abar: Tensor,
    fed: dict[str, Tensor],
    prediction_type: str,
    weights: dict[str, float],
) -> tuple[Tensor, Tensor]:
    """Total loss and the regulariser's part, as docs/formulas.md writes them."""
    signal = abar[fed["timesteps"]].float().sqrt()[:, None, None, None]
    sigma = (1 - abar[fed["timesteps"]].float()).sqrt()[:, None, None, None]
    noisy = signal * fed["latents"] + sigma * fed["noise"]
    context = _context(text, fed["input_ids"], vectors)
    maps.clear()
    prediction = unet(noisy, fed["timesteps"], context=context, transformer_options={})
    target = fed["noise"]
    if prediction_type == "v_prediction":
        target = signal * fed["noise"] - sigma * fed["latents"]
    attn = torch.zeros(())
    for layer in maps.values():  # (batch, heads, pixels, tokens)
        for sample, ids in zip(layer, fed["input_ids"], strict=True):
            new = (ids >= FIRST_NEW).nonzero().flatten().tolist()
            columns = sample.permute(2, 0, 1).flatten(1)  # (tokens, heads * pixels)
            mean, var = columns.mean(dim=1), columns.var(dim=1)
            c = new[-1] + 1
            for v in new:
                gap = weights["reg_mean_weight"] * (mean[v] - mean[c]) ** 2
                gap = gap + weights["reg_var_weight"] * (var[v] - var[c]) ** 2
                attn = attn + gap / len(new)
    attn = attn / len(maps)
    return nn.functional.mse_loss(prediction, target) + attn, attn


def _keep_maps(unet: nn.Module) -> dict[str, Tensor]:
    """Gives every attention layer an explicit softmax; attn2's matrices go into the dict."""
    maps: dict[str, Tensor] = {}

    def forward(self: Any, x: Tensor, context: Any = None, value: Any = None, **_: Any) -> Tensor:
        context = x if context is None else context

        def heads(t: Tensor) -> Tensor:
            return t.unflatten(2, (self.heads, -1)).transpose(1, 2)

        q, k, v = heads(self.to_q(x)), heads(self.to_k(context)), heads(self.to_v(context))
        scores = torch.einsum("bhpd,bhtd->bhpt", q, k) / self.dim_head**0.5
        attention = scores.softmax(dim=-1)
        if self.layer_name.endswith("attn2"):
            maps[self.layer_name] = attention
        out = torch.einsum("bhpt,bhtd->bhpd", attention, v).transpose(1, 2).flatten(2)
        return self.to_out(out)

    for name, module in unet.named_modules():
        if name.endswith(("attn1", "attn2")):
            attention: Any = module
            attention.layer_name = name
            attention.forward = types.MethodType(forward, module)
    return maps


def _text_encoder(config: dict[str, Any]) -> tuple[nn.Module, dict[str, Tensor]]:
    """transformers' CLIP text model, and its weights (fp16-exact) under its own names."""
    from transformers import CLIPTextConfig, CLIPTextModel

    settings: dict[str, Any] = {**config, "attn_implementation": "eager"}
    model = CLIPTextModel(CLIPTextConfig(**settings)).eval()
    weights = {k: v.half().float() for k, v in random_weights(model, 1).items()}
    model.load_state_dict(weights, strict=False)
    named = {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in weights.items()}
    return model.requires_grad_(False), named


def _embedding(text: Any) -> nn.Embedding:
    return text.get_input_embeddings()


def _context(text: nn.Module, ids: Tensor, vectors: Tensor) -> Tensor:
    """Last hidden states after the final norm, the new token's rows taken from `vectors`."""

    def put_in(_module: nn.Module, _inputs: Any, out: Tensor) -> Tensor:
        rows = vectors[(ids - FIRST_NEW).clamp_min(0)]
        return torch.where((ids >= FIRST_NEW)[..., None], rows, out)

    handle = _embedding(text).register_forward_hook(put_in)
    try:
        return text(input_ids=ids.clamp_max(END)).last_hidden_state
    finally:
        handle.remove()


def _abar(schedule: dict[str, Any]) -> Tensor:
    low, high = schedule["beta_start"] ** 0.5, schedule["beta_end"] ** 0.5
    count = schedule["num_train_timesteps"]
    betas = torch.tensor([(low + (high - low) * t / (count - 1)) ** 2 for t in range(count)])
    return (1 - betas.double()).cumprod(dim=0)


def _ids(words: str) -> list[int]:
    """Token ids of plain words, without start and end."""
    host_on_path()
    import comfy.sd1_clip
    from transformers import CLIPTokenizer

    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return CLIPTokenizer.from_pretrained(str(folder))(words)["input_ids"][1:-1]


def _prompt_ids(prompt: str, n_vectors: int) -> Tensor:
    before, after = prompt.split("{}")
    ids = [START, *_ids(before), *range(FIRST_NEW, FIRST_NEW + n_vectors), *_ids(after)]
    return torch.tensor([*ids, *[END] * (77 - len(ids))])
