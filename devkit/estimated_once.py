"""The same settings on the same shapes are estimated once: the trace of an estimate takes longer
than a short training of a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any


def estimated_once(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`MemoryEstimator.__call__` that gives again what `plain` gave."""
    known: dict[str, Any] = {}

    def once(self: Any, config: Any) -> Any:
        shapes = [parameter.shape for parameter in self.model.unet.parameters()]
        told = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.name != "model"]
        key = str((shapes, self.model.device, told, config.with_(seed=0)))
        if key not in known:
            known[key] = plain(self, config)
        return known[key]

    return once
