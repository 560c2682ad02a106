"""The choices that settings offer, and the checks they share."""

from __future__ import annotations

from typing import Literal

LayerChoice = Literal["all", "down", "middle", "up"]
Precision = Literal["auto", "fp32", "bf16"]
OptimizerName = Literal["AdamW", "AdamW 8-bit", "Prodigy", "AdamW schedule-free"]
Schedule = Literal["constant", "linear", "cosine"]
CategoryToken = Literal["last word", "first token"]
Augmentation = Literal["reference", "none"]
MaskSource = Literal["none", "alpha", "files"]
CaptionSource = Literal["template", "text files", "plain text files"]
CaptionKind = Literal["text", "plain text"]
LowMemory = Literal["auto", "off", "on"]
Checkpointing = Literal["auto", "off", "light", "full"]


def require(condition: bool, field_name: str, value: object, remedy: str) -> None:
    if not condition:
        raise ValueError(f"{field_name} = {value!r}: {remedy}")


def require_choice(field_name: str, value: object, choices: tuple[str, ...]) -> None:
    require(value in choices, field_name, value, f"choose one of {', '.join(choices)}")
