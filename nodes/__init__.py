"""The pack's nodes: each module here lists its own in NODES."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

MODULES = (
    "dataset",
    "prior",
    "regularization",
    "options",
    "preview",
    "stages",
    "concept",
    "attention",
    "demo",
)


def all_nodes() -> list[Any]:
    """Every node class of the pack, in menu order."""
    nodes: list[Any] = []
    for name in MODULES:
        if find_spec(f".{name}", __name__) is None:
            continue
        nodes.extend(importlib.import_module(f".{name}", __name__).NODES)
    return nodes
