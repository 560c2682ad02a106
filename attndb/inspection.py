"""What a folder of photos, a run, a folder of diffusers, a file of tensors or a workflow holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .artifacts.checked_file import check_content
from .artifacts.clip_layer import RECORD_KEY as CLIP_LAYER
from .artifacts.concept import CLIP_NAMES, MODULE_PREFIX, ConceptFileError
from .artifacts.concept_files import RECORD_KEY, read_record
from .artifacts.concept_record import check_finite, check_values
from .artifacts.prediction_metadata import told_prediction
from .artifacts.tensor_file import read_metadata, read_tensors
from .artifacts.tensor_header import read_header
from .artifacts.weight_file import delta_from_file_keys
from .config.printable import printable
from .data.caption import read_caption, read_text
from .data.mask import read_mask
from .data.photo import DatasetError
from .data.photo_file import read_photo
from .data.scan import scan
from .diffusers_inspection import PICKLES, diffusers_facts, embedding_facts, is_diffusers

_LARGEST_JSON = 64_000_000
_TOLD = 5
"""Tensors of a file that are named as bad; the others are counted."""
NODE_PREFIX = "AttnDB"
"""Of the ids of this pack's nodes."""


@dataclass
class Inspection:
    """What was found at a path."""

    path: str
    kind: str
    """photos, diffusers, embedding, weights, run, workflow, or unknown."""
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """One line each; empty when all is well."""


def inspect(path: Path) -> Inspection:
    """Looks at a path. Never raises for what it finds there."""
    name = printable(path)
    try:
        if path.is_dir():
            return _folder(path)
        if not path.is_file():
            return Inspection(name, "unknown", problems=["there is no such file or folder"])
        if path.suffix.lower() == ".safetensors":
            return _tensors(path)
        if path.suffix.lower() == ".json":
            return _workflow(path)
        if path.suffix.lower() in PICKLES:
            return Inspection(name, "embedding", embedding_facts(path))
    except (OSError, ValueError, RecursionError) as error:
        return Inspection(name, "unknown", problems=[printable(str(error) or type(error).__name__)])
    problem = (
        "not known here: give a folder of photos or of diffusers, a run folder, a .safetensors, "
        ".json, .bin or .pt file"
    )
    return Inspection(name, "unknown", problems=[problem])


def _folder(folder: Path) -> Inspection:
    if (folder / "run.json").is_file():
        return _run(folder)
    if is_diffusers(folder):
        facts, problems = diffusers_facts(folder)
        return Inspection(printable(folder), "diffusers", facts, problems)
    return _photos(folder)


def _photos(folder: Path) -> Inspection:
    found = Inspection(printable(folder), "photos")
    listing = scan(folder)
    found.problems += listing.unusable

    def name(path: Path) -> str:
        return path.relative_to(folder).as_posix()

    def each(files: Iterable[tuple[Path, Path]], read: Callable[[Path], str]) -> dict[str, str]:
        """By the photo's name what is read of a file of it; what cannot be is a problem."""
        told: dict[str, str] = {}
        for photo, path in files:
            try:
                told[printable(name(photo))] = printable(read(path))
            except DatasetError as error:
                found.problems.append(str(error))
        return told

    def size(path: Path) -> str:
        image = read_photo(path, name(path)).image
        return f"{image.width} x {image.height}"

    def mask(path: Path) -> str:
        read_mask(path, name(path))
        return name(path)

    def has_place(path: Path) -> bool:
        try:
            return "{}" in read_text(path, name(path))
        except DatasetError:  # told when it is read as a caption
            return False

    sizes = each(((path, path) for path in listing.images), size)
    found.facts = {"count": len(sizes), "sizes": sizes}
    if listing.captions:
        ours = any(map(has_place, listing.captions.values()))
        if not ours:  # another trainer's
            found.facts["captions_are"] = "plain text files"
        found.facts["captions"] = each(
            listing.captions.items(),
            lambda path: read_caption(path, name(path)) if ours else read_text(path, name(path)),
        )
    if listing.masks:
        found.facts["masks"] = each(listing.masks.items(), mask)
    return found


def _tensors(path: Path) -> Inspection:
    tensors = read_header(path)
    metadata = read_metadata(path)
    shapes = {
        printable(name): f"{entry['dtype']} {tuple(entry['shape'])}"
        for name, entry in tensors.items()
    }
    plain = {name for name in tensors if not name.startswith(MODULE_PREFIX)}
    embedding = bool(plain) and plain <= set(CLIP_NAMES)
    found = Inspection(printable(path), "embedding" if embedding else "weights")
    found.facts = {"tensors": len(shapes), "bytes": path.stat().st_size}
    if len(shapes) <= 4:
        found.facts["shapes"] = shapes
    if told := told_prediction(metadata):
        found.facts["prediction_type"] = told
    own = RECORD_KEY in metadata
    found.problems += _bad_values(path, exact=embedding or own)
    if own and not embedding:
        found.problems += _bad_keys(path)
    if RECORD_KEY not in metadata:
        found.facts["record"] = "none: not saved by this pack"
        return found
    record = read_record(path)
    assert record is not None
    wanted = ("placeholder", "category", "base_family", "prediction_type", "prompt", "versions")
    found.facts["record"] = {key: record[key] for key in wanted if key in record}
    found.facts["stages"] = [_stage(stage) for stage in record.get("stages", [])]
    return found


def _bad_keys(path: Path) -> list[str]:
    """A line if a weight file of this pack is not what was saved, as far as its keys and the scales
    of its LoRA tell it."""
    try:
        delta_from_file_keys(read_tensors(path, mapped=True)[0], path.name)
    except ConceptFileError as error:
        return [printable(error)]
    return []


def _bad_values(path: Path, exact: bool) -> list[str]:
    """A line for each tensor whose values the nodes would refuse. `exact`: also coarse types, which
    a checkpoint of others may have and a concept's files may not."""
    problems = []
    for name, value in read_tensors(path, mapped=True)[0].items():
        shown = printable(name)
        try:
            if exact:
                own, word = {shown: value}, name in CLIP_NAMES
                check_values({} if word else own, path.name, own if word else {})
            else:
                check_finite(f"{path.name}: {shown}", value)
        except ConceptFileError as error:
            problems.append(printable(error))
    more = len(problems) - _TOLD
    return problems[:_TOLD] + ([f"{more} more tensors like these"] if more > 0 else [])


def _stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Of one stage's record what tells most of it."""
    wanted = ("method", "stage", "steps", "batch_size", "seed", CLIP_LAYER)
    told = {key: stage[key] for key in wanted if key in stage}
    losses = stage.get("losses")
    if isinstance(losses, list) and losses:
        for name, loss in (("first_loss", losses[0]), ("last_loss", losses[-1])):
            if isinstance(loss, list) and all(type(part) in (int, float) for part in loss):
                told[name] = sum(loss)
    return told


def _run(folder: Path) -> Inspection:
    found = Inspection(printable(folder), "run")
    asked = _json(folder / "run.json")
    config = asked.get("config", {})
    if not isinstance(config, dict):
        found.problems.append("run.json says no settings: its config is no table")
        config = {}
    lines = folder / "losses.jsonl"
    finished = (folder / "result.safetensors").is_file()
    unfinished = (folder / "checkpoint.safetensors").is_file()
    done = len(lines.read_bytes().splitlines()) if lines.is_file() else 0
    found.facts = {
        "prompt": asked.get("prompt"),
        "method": config.get("method"),
        "stage": config.get("stage"),
        "steps": config.get("steps"),
        "steps_logged": done,
        "state": "finished" if finished else "goes on" if unfinished else "nothing kept",
        "goes_on_with_more_steps": (folder / "state.safetensors").is_file(),
        "base_family": asked.get("base_family"),
        "versions": asked.get("versions"),
    }
    for name in ("result.safetensors", "checkpoint.safetensors", "state.safetensors"):
        if (folder / name).is_file():
            try:
                check_content(folder / name)
            except ValueError as error:
                found.problems.append(f"{name}: {error}")
    return found


def _workflow(path: Path) -> Inspection:
    found = Inspection(printable(path), "workflow")
    content = _json(path)
    if isinstance(content.get("nodes"), list):  # as the page saves it
        parts = [content, *_subgraphs(content)]
        kinds = [str(node.get("type")) for part in parts for node in _tables(part.get("nodes"))]
    else:  # an API prompt
        kinds = [str(n["class_type"]) for n in content.values() if _is_node(n)]
    if not kinds:
        found.problems.append("holds no node: not a workflow")
    ours = sorted({kind for kind in kinds if kind.startswith(NODE_PREFIX)})
    found.facts = {"nodes": len(kinds), "nodes_of_this_pack": ours}
    return found


def _subgraphs(workflow: Mapping[str, Any]) -> list[dict[str, Any]]:
    definitions = workflow.get("definitions")
    return _tables(definitions.get("subgraphs")) if isinstance(definitions, dict) else []


def _tables(value: object) -> list[dict[str, Any]]:
    """What of a list is a table; nothing of what is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _is_node(value: object) -> bool:
    return isinstance(value, dict) and "class_type" in value


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path.name} is larger than {_LARGEST_JSON // 10**6} MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return content
