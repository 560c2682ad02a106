"""LossTable: the losses of a training's steps as files hold them and curves draw them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .step_loss import StepLoss, spoken_name

_UNNAMED = ("denoising", "attention_map", "prior")
"""Columns of files that tell no names: earlier versions wrote up to three."""


@dataclass(frozen=True)
class LossTable:
    """The names of the shares once, and a row of values for every step."""

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, losses: Sequence[StepLoss]) -> LossTable:
        """Of these, one after the other; a share that a step does not have is 0 there."""
        names = tuple(dict.fromkeys(name for loss in losses for name in loss.shares))
        return cls(names, tuple(tuple(loss.shares.get(n, 0.0) for n in names) for loss in losses))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LossTable:
        """The inverse of `as_record`, for files of earlier versions too. ValueError if it holds no
        such table."""
        entries, names = record.get("losses"), record.get("loss_names")
        if not isinstance(entries, list):
            raise ValueError("it holds no list of losses")
        if entries and all(isinstance(entry, dict) for entry in entries):  # earlier run folders
            names, entries = list(entries[0]), [list(entry.values()) for entry in entries]
        if not all(isinstance(row, list) and all(map(_is_number, row)) for row in entries):
            raise ValueError("a loss in it is not a finite number")
        if names is None:
            width = max(map(len, entries), default=0)
            if not all(1 <= len(row) <= len(_UNNAMED) for row in entries):
                raise ValueError("a loss in it has too few or too many parts")
            entries = [[*row, *[0.0] * (width - len(row))] for row in entries]
            names = list(_UNNAMED[:width])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of its losses are none")
        if any(len(row) != len(names) for row in entries):
            raise ValueError("a loss in it has too few or too many parts")
        return cls(tuple(names), tuple(map(tuple, entries)))

    def as_record(self) -> dict[str, Any]:
        """`losses`, a list of values for every step, and `loss_names`."""
        return {"losses": [list(row) for row in self.rows], "loss_names": list(self.names)}

    @classmethod
    def from_json(cls, text: str, steps: str) -> LossTable:
        """The inverse of `as_json`; `steps`: how many there have to be. ValueError if the text is
        not such a table."""
        told = json.loads(text)
        table = cls.from_record(told if isinstance(told, dict) else {"losses": told})
        if str(len(table.rows)) != steps:
            raise ValueError(f"it holds no list of {steps} losses")
        return table

    def as_json(self) -> str:
        """As text for a file's metadata."""
        return json.dumps(self.as_record())

    @property
    def losses(self) -> list[StepLoss]:
        """Of the steps from the first one on."""
        named = (dict(zip(self.names, row, strict=True)) for row in self.rows)
        return [StepLoss(step, shares) for step, shares in enumerate(named)]

    @property
    def curves(self) -> dict[str, tuple[float, ...]]:
        """The first share, and the others that are not always 0, as people read their names."""
        columns = zip(self.names, zip(*self.rows, strict=True), strict=False)
        return {
            spoken_name(name): values
            for number, (name, values) in enumerate(columns)
            if number == 0 or any(values)
        }


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
