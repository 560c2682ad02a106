"""Settings of a stage as a file says them: by the names that attndb/config has for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, get_type_hints

from ..config.regularization import Regularization
from ..config.stage import StageConfig
from .document import Section

_NOT_SETTINGS = ("method", "stage")
"""Decided by which stage of which method it is."""
_TIES = "regularization"
_FACTOR = "strength"
"""Of both weights of the regulariser, as the node Attention Map Regularization has it."""


def stage_settings(base: StageConfig, own: Section | None, common: Section | None) -> StageConfig:
    """A stage's settings with what a file changes of them: `own` for this stage, `common` for all
    stages of the subject, which leaves out what this one has no place for. What is wrong is noted,
    and the settings stay as they were."""
    section = own.over(common) if own is not None else common
    if section is None:
        return base
    changes = _changes(base, section, leave_out=_NOT_SETTINGS, own=("stage",) if own else ())
    kept = {name for name in changes if own is not None and own.own(name)}
    common_changes = {name: value for name, value in changes.items() if name not in kept}
    changes = {**base.applicable(common_changes), **{name: changes[name] for name in kept}}
    made = _replaced(base, changes, section)
    for name, text in not_read([(base, made)]).items():
        if name in kept:
            section.problem(text, name)
    return made


def not_read(
    stages: Sequence[tuple[StageConfig, StageConfig]], asked: Collection[str] = ()
) -> dict[str, str]:
    """Settings that were changed and that none of the stages reads, each with why; of a stage what
    it was and what it became. `asked`: those that count as changed whatever they became."""
    found: dict[str, str] = {}
    for base, made in stages:
        for name, why in made.unread.items():
            nowhere = all(name in other.unread for _, other in stages)
            if nowhere and (name in asked or getattr(made, name) != getattr(base, name)):
                found[name] = f"{name}: {why}; leave it out"
    return found


def _changes(
    base: Any,
    section: Section,
    leave_out: Collection[str] = (),
    own: Collection[str] = (),
    more: Collection[str] = (),
) -> dict[str, Any]:
    """Values of a dataclass that a section says, by field; `more`: keys that are no fields."""
    hints = get_type_hints(type(base))
    names = [f.name for f in dataclasses.fields(base) if f.name not in leave_out]
    section.only([*names, *more], own)
    changes: dict[str, Any] = {}
    for name in names:
        item = section.get(name)
        if item is None:
            continue
        part = getattr(base, name)
        if dataclasses.is_dataclass(part):
            below = item.section()
            if isinstance(part, Regularization) and below is not None:
                changes[name] = _regularization(part, below)
            elif below is not None:
                changes[name] = _replaced(part, _changes(part, below), below)
        else:
            value = item.read(hints[name])
            if value is not None:
                changes[name] = value
    return changes


def asks_for_ties(section: Section) -> bool:
    """Whether settings have a factor of the regulariser, which changes nothing where it has no
    weights."""
    below = section.section(_TIES)
    return below is not None and below.get(_FACTOR) is not None


def _regularization(own: Regularization, section: Section) -> Regularization:
    made = _replaced(own, _changes(own, section, more=(_FACTOR,)), section)
    try:
        return made.times(section.read(_FACTOR, float, 1.0))
    except ValueError as error:
        section.problem(str(error), _FACTOR)
        return made


def _replaced(base: Any, changes: dict[str, Any], section: Section) -> Any:
    try:
        return dataclasses.replace(base, **changes)
    except ValueError as error:
        text = str(error)
        name = text.partition(" ")[0]
        section.problem(text, {"optimizer": "name"}.get(name, name))
        return base
