"""What the commands of `dev.py` say while they work, and how they start others."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .pack import ROOT


class SetupError(Exception):
    """Something a person has to fix; the message says what."""


def say(text: str) -> None:
    """One line of ours between those of the programs that are run."""
    print(f"[dev] {text}", flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    say(f"{what} ...")
    start = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - start:.1f} s")


def call(command: Sequence[str | Path], environ: Mapping[str, str] | None = None) -> int:
    """Run a command in the root folder, on this terminal; return its exit code."""
    try:
        return subprocess.call([str(part) for part in command], cwd=ROOT, env=environ)
    except KeyboardInterrupt:
        return 130
