"""The header of a safetensors file: what it says to hold, without reading any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST_HEADER = 100_000_000
"""Bytes; the safetensors library reads no larger one."""


def read_header(path: Path) -> dict[str, Any]:
    """Names, types and shapes of a safetensors file. ValueError says what is wrong with it."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_HEADER):
            raise ValueError("not a safetensors file, or cut off: its header is longer than it")
        try:
            header = json.loads(handle.read(length))
        except RecursionError as error:
            raise ValueError("not a safetensors file: its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("not a safetensors file: its header is no object")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not _describes_a_tensor(entry):
            raise ValueError(f"not a safetensors file: {ascii(name)[:80]} is told as no tensor")
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end != size - 8 - length:
        raise ValueError(f"cut off or lying: its header tells of {end} bytes of tensors")
    return header


def _describes_a_tensor(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(entry.get("dtype"), str):
        return False
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    return all(isinstance(number, int) and number >= 0 for number in (*shape, *offsets))
