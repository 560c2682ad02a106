"""Tensors in PyTorch's pickled files (`.bin`, `.pt`), read so that no code in them can run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.serialization
from torch import Tensor

from .concept import ConceptFileError
from .tensor_file import size_text


def read_pickled(path: Path, *, largest: int, kind: str, mapped: bool = False) -> dict[Any, Any]:
    """The table that a pickle holds, by weights_only: tensors and plain values alone.

    largest: bytes; more is refused as no file of this `kind`. mapped: the tensors are the file's
    pages where it is of the newer, zipped form. ConceptFileError names the file and the cause.
    """
    if not path.is_file() or path.stat().st_size > largest:
        raise ConceptFileError(
            f"{path.name} is no regular file or larger than {_limit(largest)}, which no {kind} is: "
            "use another file"
        )
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped and _is_packed(path):  # a small file of this kind can fill the memory
            raise ValueError("it is compressed, which PyTorch's files never are")
        # PyTorch's own, not what other packs may have put in the place of torch.load: some of them
        # have it run code again. Some PyTorches map a file only by a name that is a str.
        content = torch.serialization.load(
            str(path), map_location="cpu", weights_only=True, mmap=mapped and zipped
        )
    except Exception as error:  # a broken or hostile pickle raises what it likes
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConceptFileError(
            f"{path.name} cannot be read as tensors alone ({first[:120]}); code in it is never "
            "run: use a safetensors file"
        ) from error
    if not isinstance(content, dict):
        raise ConceptFileError(f"{path.name} holds no table of tensors: use another file")
    _check_plain(content, path.name, largest)
    return content


def _check_plain(content: Mapping[Any, Any], file: str, largest: int) -> None:
    """ConceptFileError unless the tensors are plain ones, with their values in the file: what else
    a pickle can hold (sparse, without values, nested) no weight is. A few bytes can also be told as
    terabytes, one value for all."""
    size = 0
    for key, value in _tensors(content):
        if value.is_nested or value.is_meta or value.layout is not torch.strided:
            kind = "nested" if value.is_nested else "meta" if value.is_meta else str(value.layout)
            raise ConceptFileError(
                f"{file}: {ascii(key)[:80]} is a tensor of another kind "
                f"({kind.removeprefix('torch.')}), which no weight is: save it as a plain one"
            )
        size += value.numel() * value.element_size()
    if size > largest:
        raise ConceptFileError(
            f"{file} tells of {size_text(size)} of values, which it does not hold: use another file"
        )


def _tensors(content: Mapping[Any, Any]) -> Iterator[tuple[Any, Tensor]]:
    inner = [value for value in content.values() if isinstance(value, Mapping)]  # A1111's
    for table in (content, *inner):
        yield from ((key, value) for key, value in table.items() if isinstance(value, Tensor))


def _is_packed(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())


def _limit(size: int) -> str:
    return size_text(size).replace(".0 ", " ")
