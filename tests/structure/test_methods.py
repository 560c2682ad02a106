"""Which method it is, its own places alone ask (CONTRIBUTING.md lists them)."""

from __future__ import annotations

import ast
from typing import get_args

import pytest

from attndreambooth.attndb.config.methods import (
    NEEDS_PHOTO,
    REPARAMETRIZED,
    TEXT_BY_LAYER,
    MethodName,
)
from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.sources import python_files

OWN = ("attndb/config/methods.py", "attndb/config/compared.py", "attndb/methods/")
NAMES = {*get_args(MethodName)}
PARTS = NEEDS_PHOTO | TEXT_BY_LAYER | REPARAMETRIZED
"""What one method alone trains."""


def asks(source: str) -> list[str]:
    """Where `source` compares with a method's name or with what one method alone trains, or has a
    table by method, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            said = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
            said &= NAMES | PARTS
            found += [f"{node.lineno}: compares with {word}" for word in sorted(said)]
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)} & NAMES
            found += [f"{node.lineno}: tells {word} apart" for word in sorted(keys)]
    return found


def test_only_its_own_places_ask_which_method_it_is():
    wrong = {
        place: found
        for path in python_files("attndb", "nodes/host", "headless")
        if not (place := path.relative_to(ROOT).as_posix()).startswith(OWN)
        and (found := asks(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "source",
    [
        "if config.method == 'neti': pass",
        "if config.method in ('oft',): pass",
        "if 'image attention' in config.trains: pass",
        "VERSIONS = {'custom_diffusion': 2}",
    ],
)
def test_a_question_is_seen(source):
    assert len(asks(source)) == 1
