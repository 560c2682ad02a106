"""What the programs of this folder share: ComfyUI's part of a command line, output, problems."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

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
    for problem in problems:
        if as_json:
            where = {} if file is None else {"file": str(file), "line": problem.line or None}
            out.write(json.dumps({"event": "problem", **where, "text": problem.text}) + "\n")
        else:
            place = f"{file}:{problem.line}: " if problem.line else ""
            sys.stderr.write(f"{place}{problem.text}\n")
    return REFUSED
