"""Trainings beside one: the same with fewer steps, whose state was kept, so that a longer one goes
on from it; the same by another version, which it does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.printable import printable

log = logging.getLogger(__name__)

STATE = "state.safetensors"
"""In a run folder: the last checkpoint of a finished training."""


_VERSIONS = "versions"
"""In a request: of the host and of PyTorch. Those of this pack end in `_version`."""


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
    best: EarlierRun | None = None
    for place, found in _beside(folder):
        if _without_steps(found) != wanted:
            continue
        steps = found["config"]["steps"]
        if steps > asked["config"]["steps"]:
            continue
        if not (place / STATE).is_file():
            if place != folder and (place / "result.safetensors").is_file():
                log.info(
                    "%s has %d of these steps, but its state was not kept (keep_state): not used",
                    place,
                    steps,
                )
        elif best is None or steps > best.steps:
            best = EarlierRun(place, steps, found)
    return best


def begun_by_others(folder: Path, request: Mapping[str, Any]) -> str:
    """What to say of an unfinished training of the very same that another version of this pack, of
    the host or of PyTorch began, and that is not gone on with; empty if there is none."""
    asked = _plain(request)
    for place, found in _beside(folder):
        if not (place / "checkpoint.safetensors").is_file() or found == asked:
            continue
        ours, theirs = _own_versions(asked), _own_versions(found)
        if _without_versions(asked, ours != theirs) != _without_versions(found, ours != theirs):
            continue
        begun = f"starts from step 1: the unfinished training in {place} was begun with "
        if ours != theirs:
            return (
                f"{begun}another version of AttnDreamBooth, which trains otherwise. To go on "
                "there, put that version back; else delete the folder"
            )
        return (
            f"{begun}{_told(found.get(_VERSIONS))}, and this is {_told(asked.get(_VERSIONS))}, "
            "which may compute otherwise. To go on there, stop and start those versions again"
        )
    return ""


def _own_versions(request: Mapping[str, Any]) -> dict[str, Any]:
    """Of this pack's code that a training depends on (`session.code_versions`)."""
    return {key: value for key, value in request.items() if key.endswith("_version")}


def _without_versions(request: Mapping[str, Any], others_code: bool) -> dict[str, Any]:
    """What is asked for, by whatever version. `others_code`: of other versions of this pack, whose
    automatic pool may have had another number of crops; a run records the number."""
    own = _own_versions(request)
    rest = {key: value for key, value in request.items() if key not in (*own, _VERSIONS)}
    config = rest.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    if others_code and isinstance(config, dict) and isinstance(data, dict):
        kept = {key: value for key, value in data.items() if key != "latent_pool"}
        rest["config"] = {**config, "data": {**kept, "pool": bool(data.get("latent_pool"))}}
    return rest


def _beside(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Run folders of the same concept and stage, this one among them, and their requests."""
    kind = folder.name.rpartition("-")[0]
    for path in sorted(folder.parent.glob(f"{kind}-*/run.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield path.parent, found


def _told(versions: object) -> str:
    if not isinstance(versions, dict):
        return "unknown versions"
    return printable(", ".join(f"{name} {version}" for name, version in versions.items()), 200)


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
