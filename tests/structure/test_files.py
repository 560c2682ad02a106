"""A file is one noun, plain ASCII, documented, and does nothing that a pack must not do."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.sources import SHIPPED, python_files

LONGEST = 350  # lines; beyond it a file holds two things
EVERYWHERE = [
    *python_files(*SHIPPED, "devkit", "demo", "benchmarks", "tests"),
    ROOT / "dev.py",
]
IN_THE_HOST = python_files(*SHIPPED)
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "subprocess", "pip", "ensurepip"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "print", "os.system", "os.popen"}


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def forbidden(source: str) -> list[str]:
    """What `source` does that code running in somebody's ComfyUI must not, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if node.level == 0 else []
        else:
            names = []
        line = getattr(node, "lineno", 0)
        found += [f"{line}: imports {n}" for n in names if n in FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS:
                found.append(f"{node.lineno}: calls {called}")
            safe = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only")
            if called in ("torch.load", "torch.serialization.load") and safe != "True":
                found.append(f"{node.lineno}: torch.load without weights_only=True")
    return found


def untyped(source: str) -> list[str]:
    """Public functions and methods of `source` with an argument or a result without a type."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        missing = [
            a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")
        ]
        if missing or node.returns is None:
            found.append(f"{node.lineno}: {node.name}({', '.join(missing) or '-> ?'})")
    return found


def untidy(path: Path) -> list[str]:
    """What is wrong with a file as a file."""
    text = path.read_text(encoding="utf-8")
    found = [] if text.isascii() else ["not ASCII"]
    if text.count("\n") > LONGEST:
        found.append(f"{text.count(chr(10))} lines: this file holds two things")
    if text.strip() and path.name != "__init__.py" and not ast.get_docstring(ast.parse(text)):
        found.append("no module docstring")
    return found


def in_all(paths: list[Path], wrong: Callable[[Path], list[str]]) -> dict[str, list[str]]:
    """What is wrong in some files, by name."""
    return {label(path): found for path in paths if (found := wrong(path))}


def test_every_file_is_short_ascii_and_says_what_it_is():
    assert in_all(EVERYWHERE, untidy) == {}


def test_shipped_code_neither_unpickles_nor_prints_nor_starts_programs():
    assert in_all(IN_THE_HOST, lambda p: forbidden(p.read_text(encoding="utf-8"))) == {}


def test_the_public_api_of_the_core_is_typed():
    assert in_all(python_files("attndb"), lambda p: untyped(p.read_text(encoding="utf-8"))) == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "eval('1')",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.serialization.load(f)",
        "print(1)",
    ],
)
def test_a_forbidden_deed_is_seen(source):
    assert len(forbidden(source)) == 1


def test_an_untyped_function_is_seen():
    assert untyped("def f(a, b: int) -> None: ...") == ["1: f(a)"]
    assert untyped("def f(a: int): ...") == ["1: f(-> ?)"]
    assert untyped("def f(self, a: int) -> int: ...\ndef _g(a): ...") == []


def test_a_user_installs_nothing():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []
