"""Files written whole or not at all; safetensors written tensor by tensor, in one order.

The safetensors library gathers the whole file in memory and writes its metadata in a random order.
A checkpoint can be larger than the memory that is left, and one content has to be one sequence of
bytes, so writing is done here; reading is the library's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
from PIL import Image
from torch import Tensor

from .partial_files import forget_partials, partial_neighbour
from .placing import put_in_place

SAFETENSORS = (".safetensors", ".sft")
"""Endings of such files."""
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

FILE_PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""What people choose from for the weights in a file, by name."""

_LONGEST_PATH = 220
"""Characters. Windows takes 259 unless it is told otherwise; a partial file's name is longer."""

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
            end = offset + tensor.nbytes
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


def bytes_writer(data: bytes) -> Writer:
    """A writer of a file that holds these."""

    def write(handle: IO[bytes]) -> None:
        handle.write(data)

    return write


def text_writer(text: str) -> Writer:
    """A writer of UTF-8 text."""
    return bytes_writer(text.encode())


def png_writer(image: Image.Image) -> Writer:
    """A writer of a picture."""
    return lambda handle: image.save(handle, "PNG")


def read_tensors(path: Path, *, mapped: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. ValueError if it is broken.

    The tensors are copies: the file can be replaced or removed at once, also on Windows. `mapped`:
    they are the file's pages instead, for files that are larger than the memory that is left.
    """
    _check_regular(path)
    try:
        with safetensors.safe_open(str(path), "pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}
            metadata = dict(handle.metadata() or {})
            if not mapped:
                for name in tensors:
                    tensors[name] = tensors[name].clone()
            return tensors, metadata
    except safetensors.SafetensorError as error:
        raise _unreadable(path, error) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file, without its tensors. ValueError if it is broken."""
    _check_regular(path)
    try:
        with safetensors.safe_open(str(path), "pt") as handle:
            return dict(handle.metadata() or {})
    except safetensors.SafetensorError as error:
        raise _unreadable(path, error) from error


def _check_regular(path: Path) -> None:
    """A pipe or a device with a model's name would be waited for."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path.name} is not a regular file")


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path.name} is not a readable safetensors file: {error}")


def write_whole(files: Mapping[Path, Writer]) -> None:
    """Writes several files so that a failure leaves none of them half-written.

    Each goes to a partial neighbour first; only when all are complete are they renamed. OSError
    names the file that could not be written, its folder's free space and what to do.
    """
    with completed(files) as partials:
        for now, partial in partials.items():
            try:
                put_in_place(partial, now)
            except OSError as error:
                forget_partials(partials.values())  # the free space is what the user will find
                raise not_written(error, now) from error


@contextlib.contextmanager
def completed(files: Mapping[Path, Writer]) -> Iterator[dict[Path, Path]]:
    """Complete partial neighbours of the files, on disk, to be put in their places inside; what is
    left of them afterwards is removed. OSError, as `write_whole`'s, if one cannot be written."""
    partials: dict[Path, Path] = {}
    try:
        for path, write in files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                partials[path] = partial_neighbour(path)
                with partials[path].open("wb") as handle:
                    write(handle)
                    handle.flush()
                    os.fsync(handle.fileno())
            except OSError as error:
                forget_partials(partials.values())
                raise not_written(error, path) from error
        yield partials
    finally:
        forget_partials(partials.values())


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
    length = len(str(path.absolute()))
    long = error.errno == errno.ENOENT and length > _LONGEST_PATH  # Windows finds no such place
    if long or error.errno == errno.ENAMETOOLONG:
        remedy = f"Its path of {length} characters is too long: choose shorter names"
    else:
        remedy = f"Free space or allow writing there ({free_space(path.parent)} free)"
    return OSError(
        error.errno,
        f"{error.strerror or error}: {path.name} could not be written, and nothing was saved. "
        f"{remedy}, then queue again",
        str(path.parent),
    )
