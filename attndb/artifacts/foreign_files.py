"""Embeddings and LoRAs that other programs made, as what a concept is made of.

Embeddings: the reference implementation's `learned_embeds*.bin` ({token: tensor}; several vectors
are `<word>_v0`, `<word>_v1`, ...), A1111's `.pt`, and safetensors with `clip_l`, `clip_h`,
`emb_params` (OneTrainer: `emp_params`), `text_encoders_0` (pivotal tuning) or a token as key.
LoRAs: kohya sd-scripts, OneTrainer, diffusers and PEFT keys. Pickles are read with weights_only: no
code in them runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .adapter_metadata import AdapterMetadata
from .concept import ConceptFileError
from .concept_record import check_finite, check_precision, check_values
from .pickled_tensors import read_pickled
from .tensor_file import SAFETENSORS, read_tensors
from .weight_delta import LowRank, WeightDelta
from .weight_file import check_factors

_LARGEST_PICKLE = 100_000_000
_TEXT_KEYS = {768: "clip_l", 1024: "clip_h"}
_TWO_ENCODERS = ("clip_l", "clip_g")
"""Of SDXL: as kohya sd-scripts, OneTrainer and diffusers' own scripts name them."""
_PIVOTAL = {"text_encoders_0": "clip_l", "text_encoders_1": "clip_g"}
"""Names of pivotal tuning (cog-sdxl, diffusers at first) for what others call so."""
_OUTPUTS = ("emp_params_out", "clip_l_out", "clip_g_out")
"""OneTrainer's output embeddings: what a text encoder gives for a word, not what it is given."""
_PLAIN_NAMES = ("clip_l", "clip_h", "emb_params", "emp_params", "*")
_FACTORS = (
    (".lora_up.weight", ".lora_down.weight"),  # kohya sd-scripts, OneTrainer
    (".lora_B.weight", ".lora_A.weight"),  # PEFT, diffusers
    (".lora.up.weight", ".lora.down.weight"),  # diffusers, transformers
    ("_lora.up.weight", "_lora.down.weight"),  # diffusers before PEFT
)
_TEXT_ENCODER = ("lora_te", "text_encoder.", "text_encoder_2.", "te.", "bundle_emb.")


@dataclass(frozen=True)
class ForeignEmbedding:
    """A word of somebody else's."""

    token: str
    """How the file calls it; empty if it does not say."""
    text_key: str
    """`clip_l` or `clip_h`."""
    vectors: Tensor
    """(V, D), fp32."""
    further: Mapping[str, Tensor] = field(default_factory=dict)
    """Of an SDXL embedding: the same word for `clip_g`."""

    @property
    def widths(self) -> dict[str, int]:
        """D by text encoder."""
        both = {self.text_key: self.vectors, **self.further}
        return {name: value.shape[1] for name, value in both.items()}


def read_foreign_embedding(path: Path) -> ForeignEmbedding:
    """The embedding in a file. ConceptFileError names the file and what is wrong with it."""
    tensors = _words(_content(path), path.name)
    if outputs := [key for key in _OUTPUTS if key in tensors]:
        raise ConceptFileError(
            f"{path.name} holds {outputs[0]}, an output embedding of OneTrainer: it takes the "
            "place of what the text encoder gives and is no word of a prompt. Train it with output "
            "embedding off"
        )
    if set(tensors) == set(_TWO_ENCODERS):
        return _of_two_encoders(tensors, path.name)
    tensors = _as_one_word(tensors)
    if len(tensors) != 1:
        raise ConceptFileError(
            f"{path.name} holds {len(tensors)} tensors, and an embedding of one text encoder, or "
            "clip_l and clip_g of SDXL, is needed: use a file for SD 1.5, SD 2.x or SDXL"
        )
    [(token, value)] = tensors.items()
    return _of_one_encoder(token, value, path.name)


def _content(path: Path) -> dict[Any, Any]:
    """All that a file holds, by its keys."""
    if path.suffix.lower() not in SAFETENSORS:
        return read_pickled(path, largest=_LARGEST_PICKLE, kind="embedding")
    try:
        return dict(read_tensors(path)[0])
    except (ValueError, OSError) as error:
        raise ConceptFileError.unreadable(path, error) from error


def _words(content: dict[Any, Any], file: str) -> dict[Any, Tensor]:
    """The tensors of a file by the names that we know."""
    words = content.get("string_to_param")
    if isinstance(words, Mapping):  # A1111
        if len(words) > 1:
            raise ConceptFileError(
                f"{file} holds {len(words)} words, and a concept is one: use a file with one"
            )
        name = content.get("name")
        content = {name if isinstance(name, str) else "*": value for value in words.values()}
    return {
        _PIVOTAL.get(key, key): value for key, value in content.items() if isinstance(value, Tensor)
    }


def _of_one_encoder(token: Any, value: Tensor, file: str) -> ForeignEmbedding:
    """A word of SD 1.5 or SD 2.x; `token`: its key in the file."""
    check_precision(file, value)
    vectors = value.detach().float().reshape(-1, value.shape[-1] if value.ndim else 1)
    text_key = _TEXT_KEYS.get(vectors.shape[1])
    if text_key is None or value.ndim > 2:
        raise ConceptFileError(
            f"{file}: shape {tuple(value.shape)} is no embedding of SD 1.5 (width 768) or "
            "SD 2.x (width 1024): use a file for one of these"
        )
    check_values({}, file, {text_key: vectors})
    known = isinstance(token, str) and token not in _PLAIN_NAMES
    return ForeignEmbedding(token if known else "", text_key, vectors)


def _of_two_encoders(tensors: Mapping[str, Tensor], file: str) -> ForeignEmbedding:
    """A word of SDXL: one or several vectors for each encoder, as many for both."""
    rows: dict[str, Tensor] = {}
    for name in _TWO_ENCODERS:
        value = tensors[name]
        check_precision(f"{file}: {name}", value)
        if value.ndim not in (1, 2) or not value.numel():
            raise ConceptFileError(
                f"{file}: {name} of shape {tuple(value.shape)} is no embedding of SDXL: use a file "
                "with a row for every vector"
            )
        rows[name] = value.detach().float().reshape(-1, value.shape[-1])
    counts = {name: len(value) for name, value in rows.items()}
    if len(set(counts.values())) > 1:
        raise ConceptFileError(
            f"{file} holds {counts['clip_l']} vectors for clip_l and {counts['clip_g']} for "
            "clip_g: one word has as many for both; use another file"
        )
    check_values({}, file, rows)
    first, second = _TWO_ENCODERS
    return ForeignEmbedding("", first, rows[first], {second: rows[second]})


def _as_one_word(tensors: dict[Any, Tensor]) -> dict[Any, Tensor]:
    """The published code's `<word>_v0`, `<word>_v1`, ..., of one vector each, as one word; anything
    else as it is."""
    word = next((str(key) for key in tensors if str(key).endswith("_v0")), "").removesuffix("_v0")
    wanted = [f"{word}_v{number}" for number in range(len(tensors))]
    alike = len({(value.shape, value.dtype) for value in tensors.values()}) == 1
    if len(tensors) < 2 or set(tensors) != set(wanted) or not alike:
        return tensors
    rows = [tensors[name].detach().reshape(1, -1) for name in wanted]
    return {word: torch.cat(rows)}


def foreign_delta(
    tensors: Mapping[str, Tensor],
    weights: Mapping[str, tuple[str, tuple[int, ...]]],
    file: str,
    metadata: Mapping[str, str] | None = None,
) -> tuple[dict[str, WeightDelta], int]:
    """A LoRA as the change it makes of the U-Net, and how many of its keys are the text encoder's.

    `weights`: name and shape of our weight by the name that other programs have for it. Scales
    (alpha / rank, by a tensor or by the file's `metadata`) go into the factors. ConceptFileError
    names keys that are not understood.
    """
    told = AdapterMetadata.of(metadata or {}, file)
    delta: dict[str, WeightDelta] = {}
    left = dict(tensors)
    for up_end, down_end in _FACTORS:
        for key in [key for key in left if key.endswith(up_end)]:
            stem = key.removesuffix(up_end)
            place = weights.get(stem)
            down_key = f"{stem}{down_end}"
            if place is None or down_key not in left or f"{stem}.lora_mid.weight" in left:
                continue
            up, down = left.pop(key), left.pop(down_key)
            alpha, where = left.pop(f"{stem}.alpha", None), f"{file}: {key}"
            change = _low_rank(up, down, place[1], where)
            rank = change.up.shape[1]
            scale = told.scale(stem, rank) if alpha is None else _alpha(alpha, where) / rank
            delta[place[0]] = replace(change, up=change.up * scale)
    text = [key for key in left if key.startswith(_TEXT_ENCODER)]
    unknown = [key for key in left if not key.startswith(_TEXT_ENCODER)]
    if not tensors:
        raise ConceptFileError(f"{file} holds no tensors: restore it from where it came")
    if not unknown and not delta:
        raise ConceptFileError(
            f"{file}: all of its {len(text)} keys are the text encoder's, and a concept changes "
            "the U-Net alone: put it on CLIP with the stock Load LoRA node, and choose no lora here"
        )
    if unknown:
        shown = ", ".join(unknown[:3])
        raise ConceptFileError(
            f"{file}: {len(unknown)} of {len(tensors)} keys are no LoRA of this MODEL's U-Net "
            f"({shown}): use it with the stock Load LoRA node, or connect a MODEL of its family"
        )
    return delta, len(text)


def _low_rank(up: Tensor, down: Tensor, shape: tuple[int, ...], where: str) -> LowRank:
    check_factors(up, down, where)
    for factor in (up, down):
        check_precision(where, factor)
    factors = up.float().flatten(1), down.float().flatten(1)
    if factors[0].shape[0] != shape[0] or factors[1].shape[1] * shape[0] != math.prod(shape):
        raise ConceptFileError(
            f"{where}: factors of shapes {tuple(up.shape)} and {tuple(down.shape)} do not make the "
            f"MODEL's {shape}: connect a MODEL of its family"
        )
    for factor in factors:
        check_finite(where, factor)
    return LowRank(*factors, shape)


def _alpha(alpha: Tensor, where: str) -> float:
    value = float(alpha) if alpha.numel() == 1 else math.nan
    if not math.isfinite(value):
        raise ConceptFileError(
            f"{where}: its alpha is {alpha.flatten()[:4].tolist()}, where one number is needed: "
            "restore the file from where it came"
        )
    return value
