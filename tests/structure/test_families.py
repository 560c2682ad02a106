"""What a family of models is called, its table alone says (CONTRIBUTING.md)."""

from __future__ import annotations

import ast

from attndreambooth.attndb.config.family import FAMILIES
from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.sources import python_files

OWN = ("attndb/config/family.py", "nodes/host/model/families.py")
"""The table, and how the host's classes are named by it."""


def names_in(source: str) -> list[str]:
    """Families' names that `source` types, as `line: name`."""
    strings = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [f"{node.lineno}: {node.value}" for node in strings if node.value in FAMILIES]


def test_no_other_file_types_a_familys_name():
    wrong = {
        place: found
        for path in python_files("attndb", "nodes", "headless")
        if (place := path.relative_to(ROOT).as_posix()) not in OWN
        and (found := names_in(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


def test_a_typed_name_is_seen():
    assert names_in("WIDTHS = {768: 'SD 1.5'}\nif family == 'SDXL': pass") == [
        "1: SD 1.5",
        "2: SDXL",
    ]
