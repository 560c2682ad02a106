"""Weight files that ship with the pack: one hash each in the model card, checked at every load."""

import hashlib
import json
import logging
import re
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..attndb.artifacts.tensor_file import bytes_writer, text_writer, write_whole

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parent / "weights"
CARD = "attndb-micro.md"
MODEL = "attndb-micro.safetensors"
CLIP = "attndb-micro-clip.safetensors"
JUDGES = "attndb-micro-judges.safetensors"
DIGITS = 12
"""Of a sha256, where weights are named."""
VERSION = "2"
"""Of the model, in its file's metadata."""


class WeightsError(ValueError):
    """A shipped weight file is missing, truncated or altered; the message names it."""


def card_hashes(folder: Path = FOLDER) -> dict[str, str]:
    """File name -> sha256, from the table of the model card."""
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(
            f"{path} (the model card with the hashes) cannot be read: {error}. "
            "Restore it from the pack's repository"
        ) from error
    return {
        name: digest
        for name, digest in re.findall(r"`([\w-]+\.safetensors)`[^\n]*`([0-9a-f]{64})`", text)
    }


def load(name: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a shipped file; WeightsError unless it is the one in the card."""
    path = folder / name
    remedy = "Restore it from the pack's repository (a file in git, or the release archive)"
    expected = card_hashes(folder).get(name)
    if expected is None:
        raise WeightsError(f"{folder / CARD} holds no sha256 for {name}. {remedy}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}. {remedy}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise WeightsError(
            f"{path} is not the file of the model card: it was truncated or altered "
            f"({len(data)} bytes, sha256 {found[:12]}..., expected {expected[:12]}...). {remedy}"
        )
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}. {remedy}") from error
    size = int.from_bytes(data[:8], "little")
    return tensors, json.loads(data[8 : 8 + size]).get("__metadata__", {})


def save(
    name: str, tensors: dict[str, Tensor], metadata: dict[str, str], folder: Path = FOLDER
) -> str:
    """Write a file in one move and give its sha256; the card is the writer's to update."""
    tidy = {key: value.detach().cpu().contiguous() for key, value in sorted(tensors.items())}
    data = safetensors.torch.save(tidy, metadata)
    write_whole({folder / name: bytes_writer(data)})
    digest = hashlib.sha256(data).hexdigest()
    log.info("%s: %.1f MB, sha256 %s", folder / name, len(data) / 1e6, digest)
    return digest


def take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def put_hash(name: str, digest: str, folder: Path = FOLDER) -> None:
    """Set the hash of a file in the card's table, in place."""
    path = folder / CARD
    text = path.read_text(encoding="utf-8")
    pattern = rf"(`{re.escape(name)}`[^\n]*`)[0-9a-f]{{64}}(`)"
    text, count = re.subn(pattern, rf"\g<1>{digest}\g<2>", text)
    if count != 1:
        raise WeightsError(f"{path} must name {name} with its sha256 once; found {count} times")
    write_whole({path: text_writer(text)})
