"""Records: small JSON files of one dataclass each, that know the version of their form."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from ..attndb.artifacts.tensor_file import text_writer, write_whole

T = TypeVar("T")


class RecordError(ValueError):
    """A file that is no record of its kind; the message names it and says what to do."""


def save_record(record: Any, path: Path, version: int) -> None:
    """Write a dataclass in one move."""
    text = json.dumps({"format": version, **asdict(record)}, indent=1)
    write_whole({path: text_writer(text)})


def read_record(kind: type[T], path: Path, version: int, said: str, remedy: str) -> T:
    """RecordError for a file that is not `said` (a row of the table, say), or of another version;
    it ends with `remedy`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        theirs = found.pop("format")
        record = kind(**found) if theirs == version else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RecordError(f"{path} is no {said} ({error}): {remedy}") from error
    if record is None:
        raise RecordError(f"{path} is of version {theirs}, this is {version}: {remedy}")
    return record
