"""ModelKind: what a model asks of settings, and what to say of those that are for another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .family import SDXL
from .presets import AS_LORA, PRESETS
from .stage import StageConfig

Home = Literal["paper", "sdxl", "micro"]
"""A group of presets, called as its plain one is."""
_MADE_FOR: dict[Home, str] = {
    "paper": "SD 1.5 and 2.1",
    "sdxl": SDXL.name,
    "micro": "the embedded model",
}
_HOMES: dict[str, Home] = {
    **{"paper": "paper", "fast": "paper", "lora": "paper"},
    **{"sdxl": "sdxl", "sdxl-lora": "sdxl"},
    **{"micro": "micro", "micro-turbo": "micro", "micro-lora": "micro"},
}
_PATIENCE = 512
"""Models of this side or less are not warned of small pictures: where there is no GPU these are
advised (docs/recipes.md)."""


@dataclass(frozen=True)
class ModelKind:
    """What a model asks of settings."""

    family: str
    """For people, e.g. `SD 2.1-768`."""
    home: Home | None
    """Whose presets are for it; None: not known."""
    side: int
    """Pixels of the pictures that it was made at; 0: not known."""


def misfit(kind: ModelKind, preset: str, config: StageConfig) -> str:
    """What to say of settings that are for another model; empty where there is nothing to say.
    `preset`: that they came from, or empty. What a user chose instead of a preset's is not
    doubted."""
    return _of_preset(kind, preset, config) or _of_size(kind, config.data.resolution)


def _of_preset(kind: ModelKind, preset: str, config: StageConfig) -> str:
    home = _HOMES.get(preset)
    if home is None or kind.home is None or home == kind.home:
        return ""
    better = AS_LORA[kind.home] if preset in AS_LORA.values() else kind.home
    own, right = (PRESETS[name]()[config.stage - 1] for name in (preset, better))
    if not (_kept_rate(config, own, right) or _kept_resolution(config, own, right)):
        return ""
    size = "" if kind.side == right.data.resolution else f" and set resolution to {kind.side}"
    return (
        f"MODEL is {kind.family}, and preset {preset} is for {_MADE_FOR[home]}: its rates and "
        f"resolution ({own.data.resolution}) do not fit. Choose preset {better}{size}"
    )


def _kept_rate(config: StageConfig, own: StageConfig, right: StageConfig) -> bool:
    rate = own.optimizer.learning_rate
    return config.optimizer.learning_rate == rate != right.optimizer.learning_rate


def _kept_resolution(config: StageConfig, own: StageConfig, right: StageConfig) -> bool:
    return config.data.resolution == own.data.resolution != right.data.resolution


def _of_size(kind: ModelKind, resolution: int) -> str:
    side, least = kind.side, kind.side * 3 // 4
    made = f"MODEL is {kind.family}, which was made at {side} px, and resolution is {resolution}: "
    if side > _PATIENCE and resolution < least:
        return (
            f"{made}it draws small pictures badly, and learns from them what it draws badly. "
            f"Set resolution to {side}, or to {least} where memory does not hold that"
        )
    if side and resolution > 2 * side:
        return f"{made}it draws no such large pictures. Set resolution to {side}"
    return ""
