"""Files written whole or not at all; safetensors written tensor by tensor, in one order.

The safetensors library gathers the whole file in memory and writes its metadata in a random order.
A checkpoint can be larger than the memory that is left, and one content has to be one sequence of
bytes, so writing is done here; reading is the library's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
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

_PARTIAL = ".part"

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
    OSError names the file that could not be written, its folder's free space and what to do.
    """
    temporary: dict[Path, Path] = {}
    now = next(iter(files))
    try:
        for now, write in files.items():
            now.parent.mkdir(parents=True, exist_ok=True)
            temporary[now] = partial = now.with_name(f".{now.name}.{os.getpid()}{_PARTIAL}")
            with partial.open("wb") as handle:
                write(handle)
                handle.flush()
                os.fsync(handle.fileno())
        for now, partial in temporary.items():
            os.replace(partial, now)
    except OSError as error:
        _remove(temporary.values())  # first, so that the free space is what the user will find
        raise not_written(error, now) from error
    finally:
        _remove(temporary.values())


def _remove(partials: Iterable[Path]) -> None:
    for partial in partials:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Removes what a killed `write_whole` left; only for the one that holds the folder."""
    _remove(folder.glob(f".*{_PARTIAL}"))


def free_space(folder: Path) -> str:
    """Free space of the disk under a folder (it need not exist yet), with a unit."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return size_text(shutil.disk_usage(folder).free)
    except OSError:
        return "an unknown space"


def size_text(size: float) -> str:
    """A number of bytes for people: `1.8 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def not_written(error: OSError, path: Path) -> OSError:
    """The error to raise from `error`: it names the file, the free space and the remedy."""
    return OSError(
        error.errno,
        f"{error.strerror or error}: {path.name} could not be written, and nothing was saved. "
        f"Free space or allow writing there ({free_space(path.parent)} free), then queue again",
        str(path.parent),
    )
