"""What a concept's record says of its training, as rows and curves for people.

A record may come from anywhere: what is not as expected is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..artifacts.clip_layer import RECORD_KEY
from ..artifacts.concept import TrainedConcept
from ..config.printable import printable
from ..training.loss_table import LossTable
from ..viz.loss_curve import loss_curve

Row = tuple[str, ...]
SHOWN = {
    "method": "method",
    "steps": "steps",
    "after_steps": "of them done",
    "optimizer.learning_rate": "learning rate",
    "batch_size": "batch",
    "seed": "seed",
    "data.resolution": "resolution",
    "data.augmentation": "augmentation",
    "regularization.mean_weight": "weight of means",
    "regularization.variance_weight": "weight of variances",
    "lora_rank": "LoRA rank",
    "precision": "precision",
    RECORD_KEY: "CLIP layer",
}
"""Settings of the short table, by their place in a stage's record."""
_HIDDEN = ("losses", "loss_names")
_LONGEST = 200


def words_of(concept: TrainedConcept) -> list[Row]:
    """Name and value of what the concept is."""
    record = concept.record
    photos = record.get("photos")
    rows: list[Row] = [
        ("words in a prompt", printable(concept.trigger, _LONGEST)),
        ("trained for", printable(concept.base_family, _LONGEST)),
        ("training prompt", _text(record.get("prompt"))),
        ("tied to", _text(record.get("tie"))),
        ("photos", str(len(photos)) if isinstance(photos, list) else ""),
        ("vectors", str(len(concept.vectors))),
        ("trained weights of the U-Net", str(len(concept.delta))),
        ("digest", concept.digest()[:16]),
    ]
    return [row for row in rows if row[1]]


def stages_of(concept: TrainedConcept) -> list[dict[str, Any]]:
    """The recorded stages, each a table."""
    stages = concept.record.get("stages")
    return [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []


def short_settings(concept: TrainedConcept) -> list[Row]:
    """A row for each setting people ask for first, a column for each stage; a head on top. Empty
    without a recorded stage."""
    stages = [flattened(stage) for stage in stages_of(concept)]
    if not stages:
        return []
    rows = [("", *(f"stage {_text(s.get('stage')) or n}" for n, s in enumerate(stages, start=1)))]
    for place, name in SHOWN.items():
        values = [_text(stage.get(place)) for stage in stages]
        if any(values):
            rows.append((name, *values))
    last = [_last_loss(stage) for stage in stages_of(concept)]
    if any(last):
        rows.append(("loss, mean of the last tenth", *last))
    return rows


def all_settings(concept: TrainedConcept) -> list[Row]:
    """Every recorded setting, a column for each stage; a head on top."""
    stages = [flattened(stage) for stage in stages_of(concept)]
    if not stages:
        return []
    names = dict.fromkeys(name for stage in stages for name in stage)
    rows = [("", *(f"stage {_text(s.get('stage')) or n}" for n, s in enumerate(stages, start=1)))]
    return [*rows, *((name, *(_text(stage.get(name)) for stage in stages)) for name in names)]


def flattened(stage: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A stage's settings by dotted names, without its losses."""
    found: dict[str, Any] = {}
    for name, value in stage.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{before}{name}.")
        elif name not in _HIDDEN:
            found[f"{before}{name}"] = value
    return found


def losses_of(stage: Mapping[str, Any]) -> LossTable | None:
    """The losses of a stage's record; None if it holds none."""
    try:
        table = LossTable.from_record(stage)
    except ValueError:
        return None
    return table if table.rows else None


def loss_curves(concept: TrainedConcept) -> list[tuple[str, Image.Image]]:
    """A caption and a picture of the curves for each stage that recorded losses."""
    curves = []
    for number, stage in enumerate(stages_of(concept), start=1):
        losses = losses_of(stage)
        if losses:
            name = f"stage {_text(stage.get('stage')) or number}"
            picture = loss_curve(losses.curves, f"{name}: {printable(concept.placeholder, 60)}")
            curves.append((f"Loss of {name}", picture))
    return curves


def _last_loss(stage: Mapping[str, Any]) -> str:
    losses = losses_of(stage)
    totals = [loss.total for loss in losses.losses] if losses else []
    tail = totals[-max(1, len(totals) // 10) :]
    return f"{sum(tail) / len(tail):.4g}" if tail else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return printable(value, _LONGEST)
