"""Small folders of Hugging Face encoders with random weights, as a user would have downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIDE = 32
_SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
CLIP_PREPROCESSING: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "CLIPImageProcessor",
}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def clip_folder(folder: Path) -> Path:
    """CLIP with both halves and a tokenizer that spells words letter by letter."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True)
    letters = _write_tokenizer(folder)
    end = letters["<|endoftext|>"]
    ids = {"eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    config = CLIPConfig(
        text_config={**_SMALL, "vocab_size": len(letters), **ids},
        vision_config={**_SMALL, "image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    _save(CLIPModel(config), folder, CLIP_PREPROCESSING)
    return folder


def dinov2_folder(folder: Path) -> Path:
    """DINOv2: resized to more than it sees, then cut."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(1)
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
        )
    )
    crop = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": SIDE}}
    kind = {"image_processor_type": "BitImageProcessor"}
    _save(model, folder, {**CLIP_PREPROCESSING, **_IMAGENET, **crop, **kind})
    return folder


def dino_folder(folder: Path, *, pooler: bool = False) -> Path:
    """DINO: a ViT without a pooler, pictures made square."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(2)
    config = ViTConfig(**_SMALL, image_size=SIDE, patch_size=8)
    values = {"do_center_crop": False, "crop_size": None, "resample": 2}
    size = {"size": {"height": SIDE, "width": SIDE}, "image_processor_type": "ViTImageProcessor"}
    model = ViTModel(config, add_pooling_layer=pooler)
    _save(model, folder, {**CLIP_PREPROCESSING, **_IMAGENET, **values, **size})
    return folder


def _save(model: Any, folder: Path, preprocessing: dict[str, Any]) -> None:
    model.eval().save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(preprocessing), encoding="utf-8")


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """CLIP's vocabulary without merges."""
    letters = [chr(code) for code in range(33, 127)]
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return vocabulary
