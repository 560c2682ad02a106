"""FolderEncoder: CLIP, DINO or DINOv2 from a folder of Hugging Face transformers.

Nothing is downloaded, no code of the folder runs, and no pickle is read: a folder holds
config.json, model.safetensors, preprocessor_config.json and, for texts, CLIP's tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..config.printable import quoted
from .preprocessing import FILES, Preprocessing, read_preprocessing

KNOWN = {
    "clip": "CLIPModel",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "vit": "ViTModel",
}
"""The library's class by `model_type` of config.json. DINO is a ViT without a pooler."""
WANTED = "CLIP, DINO or DINOv2"
BATCH = 16
_TOKENIZER = (
    *("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)


class FolderEncoder:
    """An encoder for scores; CLIP reads texts, too."""

    def __init__(
        self,
        name: str,
        key: str,
        model: nn.Module,
        preprocessing: Preprocessing,
        tokenizer: Any = None,
    ) -> None:
        self.name, self.key, self.batch = name, key, BATCH
        self.reads_text = tokenizer is not None
        self.model = model.float().eval().requires_grad_(False)
        self._preprocessing, self._tokenizer = preprocessing, tokenizer

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def images(self, pictures: Sequence[Tensor]) -> Tensor:
        """Vectors (N, D): CLIP's projected ones, DINO's class token."""
        pixels = [self._preprocessing(picture) for picture in pictures]
        found: dict[int, Tensor] = {}
        for shape in dict.fromkeys(p.shape for p in pixels):  # not every folder cuts a square
            alike = [n for n, p in enumerate(pixels) if p.shape == shape]
            vectors = self._vectors(torch.stack([pixels[n] for n in alike]).to(self._device))
            found |= dict(zip(alike, vectors, strict=True))
        return torch.stack([found[n] for n in range(len(pixels))])

    def _vectors(self, pixels: Tensor) -> Tensor:
        model: Any = self.model
        if hasattr(model, "vision_model"):
            pooled = model.vision_model(pixel_values=pixels).pooler_output
            return model.visual_projection(pooled)
        return model(pixel_values=pixels).last_hidden_state[:, 0]

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (N, D) of texts, cut after 77 tokens. ValueError without a text half."""
        if self._tokenizer is None:
            raise ValueError(f"{self.name} reads no text: use CLIP for scores of text")
        model: Any = self.model
        longest = model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        pooled = model.text_model(
            input_ids=tokens["input_ids"].to(self._device),
            attention_mask=tokens["attention_mask"].to(self._device),
        ).pooler_output
        return model.text_projection(pooled)


def load_folder_encoder(folder: Path) -> FolderEncoder:
    """The encoder of a folder. ValueError, which names the folder and what it lacks, if it is none
    of CLIP, DINO and DINOv2, or not whole."""
    config = _config(folder)
    kind = config.get("model_type")
    if kind not in KNOWN or not _is_encoder(kind, config):
        what = f"model_type {quoted(kind, 40)}" + (
            f" ({quoted(config.get('architectures'), 60)})" if kind == "vit" else ""
        )
        raise ValueError(f"{folder} is no {WANTED} of Hugging Face: its config.json says {what}")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds no .safetensors file, and other weights are not read: download "
            "model.safetensors of the same model, or save it anew with "
            "save_pretrained(folder, safe_serialization=True)"
        )
    preprocessing = read_preprocessing(folder)
    model = _model(folder, kind)
    tokenizer = _tokenizer(folder) if kind == "clip" else None
    return FolderEncoder(folder.name, _key(folder), model, preprocessing, tokenizer)


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: type the folder of {WANTED}")
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} is no {WANTED} of Hugging Face: it has no config.json. Download the whole "
            "folder of the model, e.g. of openai/clip-vit-base-patch32 or facebook/dinov2-base"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}): download it again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no table of settings: download it again")
    return config


def _is_encoder(kind: str, config: dict[str, Any]) -> bool:
    """A ViT with a head is a classifier, not DINO."""
    return kind != "vit" or config.get("architectures") in (None, ["ViTModel"])


def _model(folder: Path, kind: str) -> nn.Module:
    import transformers

    options: dict[str, Any] = {"add_pooling_layer": False} if kind == "vit" else {}
    made = getattr(transformers, KNOWN[kind], None)
    if made is None:
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} does not know {kind}: update it "
            "with ComfyUI's requirements"
        )
    try:
        model, info = made.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: its weights cannot be loaded ({_short(error)}): download it again"
        ) from error
    lacking = sorted(str(key) for key in info["missing_keys"])
    if lacking:
        raise ValueError(
            f"{folder}: its weights lack {', '.join(lacking[:3])} ({len(lacking)} in all): they "
            "are of another model than its config.json, or damaged; download it again"
        )
    if kind == "vit" and any("pooler" in str(key) for key in info["unexpected_keys"]):
        raise ValueError(f"{folder} is no {WANTED}: it is a ViT with a pooler, which DINO has not")
    return model


def _tokenizer(folder: Path) -> Any:
    import transformers

    if not (folder / "tokenizer.json").is_file() and not (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    ):
        raise ValueError(
            f"{folder} lacks CLIP's tokenizer: download vocab.json and merges.txt with the model"
        )
    try:
        return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"{folder}: CLIP's tokenizer cannot be read ({_short(error)}): download vocab.json and "
            "merges.txt again"
        ) from error


def _short(error: BaseException) -> str:
    return quoted(str(error).strip().partition("\n")[0], 200)


def _key(folder: Path) -> str:
    """SHA-256 of all that decides the vectors."""
    content = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        content.update(path.name.encode())
        with path.open("rb") as handle:
            while part := handle.read(1 << 20):
                content.update(part)
    for name in ("config.json", *FILES, *_TOKENIZER):
        path = folder / name
        if path.is_file():
            content.update(name.encode() + path.read_bytes())
    return content.hexdigest()
