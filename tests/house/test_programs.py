"""Every program of the repository can start: what it takes from others is there."""

from __future__ import annotations

import importlib

import pytest

from attndreambooth.devkit.pack import PACK, ROOT

PROGRAMS = sorted(
    path
    for folder in ("demo", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "run_program(__file__)" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_program_finds_what_it_is_made_of(host, path):
    module = importlib.import_module(f"{PACK}.{path.parent.name}.{path.stem}")
    assert callable(module.main)
