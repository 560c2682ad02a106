"""Safetensors files that know their content: a SHA-256 of the whole file in its own metadata.

A disk that rots changes bytes without a word. The checksum stands for all of them, header
included, with the checksum's own place left blank; it is written last, into that place.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from torch import Tensor

from .tensor_file import Writer, tensors_writer
from .tensor_header import LARGEST_HEADER

_FIELD = "attndb.checksum"
_BLANK = "0" * 64
_BEFORE = f'"{_FIELD}":"'.encode()
_CHUNK = 1 << 23
_REMEMBERED = 64

_sound: dict[Path, tuple[int, ...]] = {}
_lock = threading.Lock()


def checked_writer(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Writer:
    """A writer of a safetensors file with a checksum; memory for one tensor at a time."""

    def write(handle: IO[bytes]) -> None:
        hashing = _HashingHandle(handle)
        blank = {**metadata, _FIELD: _BLANK}
        tensors_writer(tensors, blank)(cast("IO[bytes]", hashing))
        handle.seek(hashing.place)
        handle.write(hashing.content.hexdigest().encode())

    return write


class _HashingHandle:
    """Writes through to a handle; the content's hash, and the place of the checksum in it."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.content = hashlib.sha256()
        self.place = 0

    def write(self, data: Any) -> int:
        if not self.place:  # the header comes first, whole
            self.place = bytes(data).index(_BEFORE + _BLANK.encode()) + len(_BEFORE)
        self.content.update(data)
        return self._handle.write(data)


def check_content(path: Path) -> None:
    """ValueError if the file is not what `checked_writer` wrote."""
    before = _state(path)
    with path.open("rb") as handle:
        start = handle.read(8)
        length = int.from_bytes(start, "little")
        header = handle.read(length) if length <= LARGEST_HEADER else b""
        if len(start) < 8 or length == 0 or len(header) < length:
            raise ValueError("it is cut off or no safetensors file")
        place = header.find(_BEFORE) + len(_BEFORE)
        stated = header[place : place + len(_BLANK)]
        if place < len(_BEFORE) or len(stated) < len(_BLANK):
            raise ValueError("it carries no checksum")
        content = hashlib.sha256(start)
        content.update(header[:place] + _BLANK.encode() + header[place + len(_BLANK) :])
        while chunk := handle.read(_CHUNK):
            content.update(chunk)
    if content.hexdigest().encode() != stated:
        raise ValueError("its content does not match its checksum")
    _remember(path, before)


def is_sound(path: Path) -> bool:
    """Whether this very file was written or checked before by this process."""
    with _lock:
        return _sound.get(path) == _state(path)


def remember_sound(path: Path) -> None:
    """The file was just written by `checked_writer`: it need not be read to be known."""
    _remember(path, _state(path))


def _remember(path: Path, state: tuple[int, ...]) -> None:
    with _lock:
        _sound.pop(path, None)
        _sound[path] = state
        while len(_sound) > _REMEMBERED:
            del _sound[next(iter(_sound))]


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
