"""Encoders for scores: the host's CLIP_VISION and CLIP, folders below models/, the micro CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd1_clip
import folder_paths
import torch
from torch import Tensor, nn

from ...attndb.artifacts.digest import tensors_digest
from ...attndb.config.printable import quoted
from ...attndb.evaluation.hugging_face import WANTED, FolderEncoder, load_folder_encoder
from ...micro.clip_encoder import MicroClipEncoder, micro_clip_encoder
from .file_state import files_state
from .model.weights import merged_weights
from .typed_path import can_be_path, is_folder, lies_below, place_of, unquoted

OWNERS_KEY = "attndb_encoders"
"""Folders that the server's owner allows: a line of this name in extra_model_paths.yaml."""
_MOST_NAMED = 8
_PROJECTION, _VISUAL = "text_projection.weight", "visual_projection.weight"


class WiredEncoder:
    """The image half of a CLIP_VISION, and the text half of a CLIP if one belongs to it."""

    reads_text = False
    batch = 16

    def __init__(self, clip_vision: Any, clip: Any = None) -> None:
        self.name = "CLIP_VISION"
        self._vision, self._clip = clip_vision, clip
        weights = {f"vision {k}": v for k, v in _state(clip_vision).items()}
        _check_vision(clip_vision, weights)
        if clip is not None:
            if not any(key.endswith(_VISUAL) for key in weights):
                raise ValueError(
                    "clip_vision is no CLIP (DINOv2?), so no text half belongs to it: disconnect "
                    "clip, or connect the CLIP_VISION of the same CLIP"
                )
            texts = merged_weights(clip.patcher, "")
            weights |= {f"text {k}": v for k, v in texts.items()}
            self.reads_text = True
            self._check_text(texts)
        self.key = tensors_digest(weights)

    def images(self, pictures: Sequence[Tensor]) -> Tensor:
        """Vectors (N, D) as CLIP Vision Encode gives them (image_embeds, cut from the middle)."""
        found: dict[int, Tensor] = {}
        for shape in dict.fromkeys(picture.shape for picture in pictures):  # a call for each size
            alike = [n for n, picture in enumerate(pictures) if picture.shape == shape]
            batch = torch.stack([pictures[n] for n in alike])
            vectors = self._vision.encode_image(batch)["image_embeds"].reshape(len(alike), -1)
            found |= dict(zip(alike, vectors, strict=True))
        return torch.stack([found[n] for n in range(len(pictures))])

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (N, D): the projected state of the end token."""
        if self._clip is None:
            raise ValueError("connect the CLIP that belongs to the CLIP_VISION for scores of text")
        return torch.cat([self._text(text) for text in texts])

    def _text(self, text: str) -> Tensor:
        tokens = self._clip.tokenize(text.replace("(", "\\(").replace(")", "\\)"))  # no weights
        return self._clip.encode_from_tokens(tokens, return_pooled=True)[1].reshape(1, -1)

    def _check_text(self, weights: Mapping[str, Tensor]) -> None:
        """ValueError unless both halves can be of one CLIP; `weights`: of the text half."""
        text = self._text("a photo").shape[-1]
        image = self.images([torch.zeros(8, 8, 3)]).shape[-1]
        if text != image:
            raise ValueError(
                f"clip and clip_vision are not of one CLIP: texts have {text} features, pictures "
                f"{image}. Connect the text half of the same CLIP (Load CLIP), or none"
            )
        found = [value for key, value in weights.items() if key.endswith(_PROJECTION)]
        if not any(_is_projection(value) for value in found):
            raise ValueError(
                "clip has no text projection: the CLIP of an SD checkpoint cannot be compared with "
                "pictures. Load the whole text half of the same CLIP with Load CLIP, or use a "
                "folder of it"
            )


def _check_vision(clip_vision: Any, weights: Mapping[str, Tensor]) -> None:
    """ValueError unless a CLIP_VISION has one vector for a picture, and all that makes it."""
    remedy = "connect one of CLIP or DINOv2, or use a folder of it"
    found = clip_vision.encode_image(torch.zeros(1, 8, 8, 3))["image_embeds"]
    if found.ndim != 2:
        raise ValueError(
            f"clip_vision gives a vector for each of {found.shape[1]} places of a picture and none "
            f"for the whole, as SigLIP does in ComfyUI: {remedy}"
        )
    projections = [value for key, value in weights.items() if key.endswith(_VISUAL)]
    llava = any(" multi_modal_projector." in key for key in weights)
    if llava or not all(map(_is_projection, projections)):
        raise ValueError(
            f"clip_vision has no {_VISUAL}, e.g. because its file is LLaVA's: its vectors would be "
            f"chance. {remedy[0].upper()}{remedy[1:]}"
        )


def _is_projection(weight: Tensor) -> bool:
    """What the host leaves where a file has none (zeros, an identity, whatever was there) is no
    projection; zeros, identities and numbers that are not finite can be told."""
    if weight.ndim != 2 or not bool(weight.isfinite().all()) or not bool(weight.any()):
        return False
    square = weight.shape[0] == weight.shape[1]
    return not (square and torch.equal(weight, torch.eye(len(weight))))


def _state(clip_vision: Any) -> dict[str, Tensor]:
    patcher = getattr(clip_vision, "patcher", None)
    if patcher is None or not hasattr(clip_vision, "encode_image"):
        raise ValueError("clip_vision is no CLIP_VISION: connect Load CLIP Vision")
    return merged_weights(patcher, "")


def encoder_roots() -> list[Path]:
    """Folders below which encoders may lie: models/, and what the owner allows."""
    known = folder_paths.folder_names_and_paths
    roots = [folder_paths.models_dir, *known["clip_vision"][0]]
    roots += known[OWNERS_KEY][0] if OWNERS_KEY in known else []
    return [Path(root) for root in dict.fromkeys(roots)]


class ManagedEncoder:
    """An encoder of a folder whose memory the host manages: on its device only while it is used."""

    def __init__(self, encoder: FolderEncoder) -> None:
        self.name, self.key = encoder.name, encoder.key
        self.batch, self.reads_text = encoder.batch, encoder.reads_text
        self._encoder = encoder
        management = comfy.model_management
        self.patcher = comfy.model_patcher.ModelPatcher(
            nn.ModuleList([encoder.model]),  # the host sets attributes that the library's has
            load_device=management.text_encoder_device(),
            offload_device=management.text_encoder_offload_device(),
        )

    def images(self, pictures: Sequence[Tensor]) -> Tensor:
        """Vectors (N, D)."""
        comfy.model_management.load_model_gpu(self.patcher)
        return self._encoder.images(pictures)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (N, D); ValueError without a text half."""
        comfy.model_management.load_model_gpu(self.patcher)
        return self._encoder.texts(texts)


def folder_encoder(text: str) -> ManagedEncoder:
    """The encoder of a folder below one of the roots, absolute or relative to one. ValueError if it
    is none, or lies elsewhere."""
    return ManagedEncoder(load_folder_encoder(_resolved(text)))


def encoder_state(text: object) -> str:
    """Changes when a file of the folder does."""
    return files_state(
        lambda: sorted(path for path in _resolved(str(text)).iterdir() if path.is_file())
    )


def _resolved(text: str) -> Path:
    cleaned = unquoted(text)
    if not cleaned:
        there = ", ".join(known_folders()[:_MOST_NAMED]) or "none yet"
        raise ValueError(
            f"folder is empty: type the folder of {WANTED} below ComfyUI's models/, e.g. "
            f"clip_vision/clip-vit-base-patch32. There: {there}"
        )
    if not can_be_path(cleaned):
        raise ValueError(
            f"folder = {quoted(text)} is no path: type the folder of {WANTED} below ComfyUI's "
            "models/"
        )
    folder = place_of(cleaned, encoder_roots(), is_folder)
    if not lies_below(folder, encoder_roots()):
        raise ValueError(
            f"folder {quoted(text, 200)} lies outside of ComfyUI's models/: put it there. Other "
            f"folders are read only if the server's owner allows them, with the line "
            f"'{OWNERS_KEY}: /path/to/encoders' in extra_model_paths.yaml"
        )
    if not is_folder(folder):
        raise ValueError(f"there is no folder {quoted(folder, 300)}: type the folder of {WANTED}")
    return folder


def known_folders() -> list[str]:
    """Folders below models/clip_vision that hold a config.json, as they can be typed."""
    found = []
    for root in folder_paths.folder_names_and_paths["clip_vision"][0]:
        try:
            found += [p.parent.name for p in Path(root).glob("*/config.json")]
        except OSError:
            continue
    return sorted(set(found))


def micro_encoder() -> MicroClipEncoder:
    """The micro CLIP, with the host's own tokeniser."""
    tokenizers: Any = comfy.sd1_clip.SD1Tokenizer()  # which names them as it goes
    return micro_clip_encoder(tokenizers.clip_l.tokenizer)
