"""A corpus of bad safetensors files, the same every time: cut, damaged, lying, of odd types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from .bad_files import chance

CUTS = 12
FLIPS = 30
ODD_TYPES = (
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.bool,
)


def bad_tensor_files(good: dict[str, Tensor], metadata: dict[str, str]) -> Iterator[Any]:
    """Name and content of each file, made from one that is sound."""
    whole = save(good, metadata)
    for part in range(CUTS):
        yield f"cut-{part}", whole[: len(whole) * part // CUTS]
    yield "cut-last", whole[:-1]
    yield "longer", whole + b"\0" * 64
    for number in range(FLIPS):
        draw, changed = chance(f"tensors {number}"), bytearray(whole)
        for _ in range(1 + number % 4):
            changed[draw.integers(min(len(whole), 400))] = draw.integers(256)
        yield f"damaged-{number}", bytes(changed)
    for kind in ODD_TYPES:
        odd = {name: _as(value, kind) for name, value in good.items()}
        yield f"type-{str(kind).removeprefix('torch.')}", save(odd, metadata)
    for value in (float("nan"), float("inf"), float("-inf")):
        yield f"value-{value}", save({n: t * value for n, t in good.items()}, metadata)
    length = int.from_bytes(whole[:8], "little")
    header, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    for name, changed in _lies(header):
        text = json.dumps(changed).encode()
        yield f"lying-{name}", len(text).to_bytes(8, "little") + text + body
    for number, size in enumerate((0, 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1)):
        yield f"length-{number}", size.to_bytes(8, "little") + whole[8:]
    for name, text in _texts().items():
        yield f"header-{name}", len(text).to_bytes(8, "little") + text + body


def _as(value: Tensor, kind: torch.dtype) -> Tensor:
    return torch.ones_like(value).to(kind)


def _lies(header: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Headers that say of the first tensor what is not so."""
    first = next(name for name in header if name != "__metadata__")
    entry = header[first]
    start, end = entry["data_offsets"]
    changes: dict[str, dict[str, Any]] = {
        "shape": {"shape": [10**6, 10**6]},
        "overflow": {"shape": [2**62, 2**62]},
        "negative-shape": {"shape": [-1, 5]},
        "no-shape": {"shape": "8"},
        "less": {"shape": [1]},
        "type": {"dtype": "F999"},
        "wider": {"dtype": "F64"},
        "no-type": {"dtype": 5},
        "beyond": {"data_offsets": [start, end + 10**12]},
        "backwards": {"data_offsets": [end, start]},
        "negative": {"data_offsets": [-8, end - 8 - start]},
        "one-offset": {"data_offsets": [start]},
        "gap": {"data_offsets": [start + 4, end + 4]},
    }
    for name, change in changes.items():
        yield name, {**header, first: {**entry, **change}}
    yield "twice", {**header, "again": entry}
    yield "metadata", {**header, "__metadata__": {"attndb.record": 5}}
    yield "metadata-list", {**header, "__metadata__": ["a"]}


def _texts() -> dict[str, bytes]:
    """Headers that are none."""
    return {
        "list": b"[]",
        "number": b"5",
        "empty": b"",
        "no-json": b"{",
        "nested": b'{"a":' * 20_000,
        "utf16": '{"a": 1}'.encode("utf-16"),
        "entry": b'{"a": 5}',
        "zeros": b"\0" * 100,
        "pickle": b"cos\nsystem\n(S'touch hacked'\ntR.",
    }
