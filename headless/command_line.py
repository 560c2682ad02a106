"""What the programs of this folder share: ComfyUI's part of a command line, output, problems."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal

from ..attndb.jobs.document import Problem

REFUSED = 2
"""Exit status: nothing was begun."""


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A program's own arguments, and after `--` those of ComfyUI."""
    given = list(arguments)
    at = given.index("--") if "--" in given else len(given)
    return given[:at], given[at + 1 :]


def standard_output() -> IO[str]:
    """The real one, for what is asked of a program; whatever else is printed goes elsewhere."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="backslashreplace")
    sys.stdout = sys.stderr
    return out


def refused(
    problems: Sequence[Problem], out: IO[str], *, as_json: bool, file: Path | None = None
) -> int:
    """Tells what is wrong, and where in a file; the exit status."""
    tell("problem", problems, out, as_json=as_json, file=file)
    return REFUSED


def tell(
    event: Literal["problem", "warning"],
    found: Sequence[Problem],
    out: IO[str],
    *,
    as_json: bool,
    file: Path | None = None,
) -> None:
    """Tells what was found, and where in a file."""
    label = "warning: " if event == "warning" else ""
    for problem in found:
        if as_json:
            where = {} if file is None else {"file": str(file), "line": problem.line or None}
            out.write(json.dumps({"event": event, **where, "text": problem.text}) + "\n")
        else:
            place = f"{file}:{problem.line}: " if problem.line else ""
            sys.stderr.write(f"{place}{label}{problem.text}\n")
