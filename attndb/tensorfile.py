"""Files written whole or not at all; safetensors written tensor by tensor, in one order.

The safetensors library gathers the whole file in memory and writes its metadata in a random order.
A checkpoint can be larger than the memory that is left, and one content has to be one sequence of
bytes, so writing is done here; reading is the library's.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

Writer = Callable[[IO[bytes]], None]
"""Writes a file's content to an open handle."""


def tensors_writer(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Writer:
    """A writer of a safetensors file; memory for one tensor at a time."""

    def write(handle: IO[bytes]) -> None:
        names = sorted(tensors)
        header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
        offset = 0
        for name in names:
            tensor = tensors[name]
            end = offset + tensor.numel() * tensor.element_size()
            header[name] = {
                "dtype": _DTYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        handle.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().flatten()
            handle.write(flat.view(torch.uint8).numpy().data)

    return write


def text_writer(text: str) -> Writer:
    """A writer of UTF-8 text."""

    def write(handle: IO[bytes]) -> None:
        handle.write(text.encode())

    return write


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. ValueError if it is broken."""
    try:
        return safetensors.torch.load_file(str(path)), read_metadata(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is not a readable safetensors file: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file, without its tensors. ValueError if it is broken."""
    try:
        with safetensors.safe_open(str(path), "pt") as handle:
            return dict(handle.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is not a readable safetensors file: {error}") from error


def write_whole(files: Mapping[Path, Writer]) -> None:
    """Writes several files so that a failure leaves none of them half-written.

    Each goes to a temporary neighbour first; only when all are complete are they renamed.
    OSError says which folder could not be written and what to do.
    """
    temporary: dict[Path, Path] = {}
    try:
        for path, write in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}.part")
            temporary[path] = partial
            with partial.open("wb") as handle:
                write(handle)
                handle.flush()
                os.fsync(handle.fileno())
        for path, partial in temporary.items():
            os.replace(partial, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}: nothing was saved. Free space or allow writing, then "
            "queue again",
            str(error.filename or next(iter(files)).parent),
        ) from error
    finally:
        for partial in temporary.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
