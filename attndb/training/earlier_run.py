"""The same training with fewer steps, whose state was kept: a longer one goes on from it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

STATE = "state.safetensors"
"""In a run folder: the last checkpoint of a finished training."""


@dataclass(frozen=True)
class EarlierRun:
    """A finished training in its folder."""

    folder: Path
    steps: int
    request: Mapping[str, Any]

    @property
    def state(self) -> Path:
        """Its last checkpoint."""
        return self.folder / STATE


def earlier_run(folder: Path, request: Mapping[str, Any]) -> EarlierRun | None:
    """The longest training beside a run folder that asked for the same but for fewer steps, or for
    the very same, and whose state was kept; None if there is none, or if the rate has a course over
    the steps: then another number of steps is another training from the first on."""
    asked = _plain(request)
    wanted = _without_steps(asked)
    if wanted is None:
        return None
    kind = folder.name.rpartition("-")[0]
    best: EarlierRun | None = None
    for path in sorted(folder.parent.glob(f"{kind}-*/run.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if not isinstance(found, dict) or _without_steps(found) != wanted:
            continue
        steps = found["config"]["steps"]
        if steps > asked["config"]["steps"]:
            continue
        if not (path.parent / STATE).is_file():
            if path.parent != folder and (path.parent / "result.safetensors").is_file():
                log.info(
                    "%s has %d of these steps, but its state was not kept (keep_state): not used",
                    path.parent,
                    steps,
                )
        elif best is None or steps > best.steps:
            best = EarlierRun(path.parent, steps, found)
    return best


def _plain(request: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(request))


def _without_steps(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """A request less its number of steps; None if that decides more than when it ends."""
    config = request.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("steps"), int):
        return None
    if config.get("optimizer", {}).get("schedule") != "constant":
        return None
    return {**request, "config": {k: v for k, v in config.items() if k != "steps"}}
