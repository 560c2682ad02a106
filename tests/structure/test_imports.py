"""Dependencies point one way, from room to room (CONTRIBUTING.md has the tree)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from attndreambooth.devkit.pack import PACK, ROOT
from attndreambooth.devkit.sources import imports_of, module_name, python_files

HOST_MODULES = {
    *("comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras"),
    *("app", "api_server", "cuda_malloc", "execution", "folder_paths", "latent_preview", "main"),
    *("middleware", "node_helpers", "nodes", "protocol", "server", "utils"),
}
ROOMS = {
    # folder: what it may import of the pack; a folder may always import itself
    "attndb/config": set(),
    "attndb/artifacts": {"attndb/config"},
    "attndb/viz": {"attndb/attention"},
    "attndb/data": {"attndb/config", "attndb/artifacts"},
    "attndb/models": {"attndb/config", "attndb/data"},
    "attndb/attention": {"attndb/config", "attndb/data", "attndb/models"},
    "attndb/jobs": {"attndb/config", "attndb/data", "attndb/artifacts/file_name"},
    "attndb/losses": {"attndb/attention", "attndb/data"},
    "attndb/methods": {
        *("attndb/config", "attndb/data", "attndb/models", "attndb/attention", "attndb/losses"),
        "attndb/artifacts",
    },
    "attndb/training": {"attndb"},
    "attndb/memory": {"attndb"},
    "attndb/evaluation": {"attndb"},
    "attndb": {"attndb"},
    "micro": {"attndb"},
    "nodes/host/model": {"attndb", "micro", "nodes/host/compat"},
    "nodes/host/capture": {"attndb", "nodes/host/model", "nodes/host/compat"},
    "nodes/host/ui": {"attndb", "nodes/host/model", "nodes/host/compat"},
    "nodes/host": {"attndb", "micro", "nodes/host"},
    "nodes": {"attndb", "micro", "nodes"},
    "headless": {"attndb", "micro", "nodes"},
    "devkit": {"attndb", "micro", "nodes"},
    "demo": {"attndb", "micro", "nodes", "devkit"},
    "benchmarks": {"attndb", "micro", "nodes", "devkit"},
    "": {"nodes"},  # the root's own `__init__`, where the host comes in
}
NOT_BELOW = {
    # of those that may import all of attndb: the rooms that build on them
    "attndb/training": {"attndb/memory", "attndb/evaluation"},
    "attndb/memory": {"attndb/evaluation"},
    "micro": {"attndb/training", "attndb/memory", "attndb/evaluation", "attndb/methods"},
}
HOST_ROOMS = ("nodes/host", "micro", "headless", "demo", "benchmarks", "devkit")
"""Where the host's insides may be touched. micro/ builds the host's own U-Net classes."""
HIDDEN = {
    *("import_module", "__import__", "spec_from_file_location", "spec_from_loader"),
    *("SourceFileLoader", "run_path", "run_module"),
}
"""Calls that import, by whatever name their module goes."""
MAY_HIDE = {"devkit/pack.py", "attndb/__main__.py", "attndb/training/optimizers.py"}
"""The bootstraps (of tests and programs; of the commands that need the host, which the core hands
on without knowing it), and the optional packages of other people."""
FOLDERS = ("attndb", "micro", "nodes", "headless", "devkit", "demo", "benchmarks")
CHECKED = [ROOT / "__init__.py", *python_files(*FOLDERS)]


def room_of(name: str) -> str:
    """The room of a module or package named from the root, e.g. `nodes/host/model`."""
    place = name.replace(".", "/")
    return max((r for r in ROOMS if f"{place}/".startswith(f"{r}/")), key=len, default=place)


def within(place: str, folders: set[str]) -> bool:
    return any(f"{place}/".startswith(f"{folder}/") for folder in folders)


def violations(source: str, path) -> list[str]:
    """Every import in `source` that its place in the tree forbids, as `line: reason`."""
    name = module_name(path)
    room = room_of(name)
    found = []
    absolute = {  # by the package's own name
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and node.level == 0
        and f"{node.module}.".startswith(f"{PACK}.")
    }
    for item in imports_of(source, path):

        def bad(reason: str, item=item) -> None:
            found.append(f"{item.line}: imports {item.name}: {reason}")

        place = item.name.replace(".", "/")
        if item.line in absolute:
            bad("inside the pack imports are relative")
        elif not item.inside:
            if item.top in {*FOLDERS, "tests", "support"} - {"nodes"}:  # that is the host's
                bad("inside the pack imports are relative")
            if item.top in HOST_MODULES and not within(room, set(HOST_ROOMS)):
                if not (room in ("", "nodes") and item.top == "comfy_api"):
                    bad("only nodes/host touches the host's insides")
        elif item.name.startswith("<outside>") or not item.name:
            bad("leaves the pack")
        elif room_of(item.name) == room or place == room:
            continue
        elif not within(place, ROOMS[room]) or within(place, NOT_BELOW.get(room, set())):
            bad(f"{room}/ does not depend on {room_of(item.name)}/")
    if path.relative_to(ROOT).as_posix() not in MAY_HIDE:
        found += [
            f"{node.lineno}: hides an import behind {ast.unparse(node.func)}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in HIDDEN
        ]
    return found


def test_imports_point_one_way():
    wrong = {
        path.relative_to(ROOT).as_posix(): found
        for path in CHECKED
        if (found := violations(path.read_text(encoding="utf-8"), path))
    }
    assert wrong == {}


def test_no_file_imports_itself_by_way_of_others():
    graph = {}
    for path in CHECKED:
        found = imports_of(path.read_text(encoding="utf-8"), path)
        graph[module_name(path)] = {i.name for i in found if i.inside}
    done: set[str] = set()

    def visit(name: str, chain: tuple[str, ...]) -> None:
        assert name not in chain, f"import cycle: {' -> '.join((*chain, name))}"
        if name not in done:
            for child in sorted(graph.get(name, ())):
                if child != name:
                    visit(child, (*chain, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_no_folder_of_the_tree_is_left_out():
    there = {path.parent.name for path in ROOT.glob("*/*.py")} - {".venv", ".host", ".cache"}
    assert there <= {*FOLDERS, "tests"}, "the tests stand on top, and import what they will"


def test_dev_py_needs_the_standard_library_alone():
    seen: set[Path] = set()
    waiting = [ROOT / "dev.py"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            stem = getattr(node, "module", None)
            named = [alias.name for alias in node.names]
            level = getattr(node, "level", 0)
            if level or stem == "devkit" or str(stem).startswith("devkit."):
                whole = stem in (None, "devkit")
                stems = named if whole else [str(stem).removeprefix("devkit.")]
                found = [ROOT / "devkit" / f"{name}.py" for name in stems]
                waiting += [file for file in found if file not in seen]
            else:
                tops = {name.split(".")[0] for name in ([stem] if stem else named)}
                assert tops <= {*sys.stdlib_module_names}, (path.name, tops)
    assert ROOT / "devkit" / "touched.py" in seen


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("attndb/x.py", "import comfy.sd"),
        ("attndb/x.py", "def f():\n    from folder_paths import base_path"),
        ("attndb/x.py", "from ..nodes import host"),
        ("attndb/x.py", "from attndb.config import paper"),
        ("attndb/attention/tap.py", "from ..training.trainer import train_stage"),
        ("attndb/config/x.py", "from ..data.tokens import locate"),
        ("attndb/training/x.py", "from ..memory.estimate import MemoryEstimator"),
        ("attndb/training/x.py", "import importlib\nimportlib.import_module('x')"),
        ("attndb/training/x.py", "from importlib import import_module\nimport_module('x')"),
        ("demo/x.py", "import runpy as r\nr.run_path('x.py')"),
        ("__init__.py", "from .attndb.training.session import train_stage"),
        ("nodes/x.py", "from headless import program"),
        ("devkit/x.py", "from attndreambooth.attndb.config import presets"),
        ("benchmarks/x.py", "from support.studio import Studio"),
        ("micro/x.py", "from ..nodes import stages"),
        ("micro/x.py", "from ..attndb.training.trainer import train_stage"),
        ("nodes/x.py", "import comfy.utils"),
        ("nodes/x.py", "from ..demo import album"),
        ("nodes/x.py", "from ..headless import program"),
        ("attndb/x.py", "from ..headless import program"),
        ("headless/x.py", "from ..devkit import pack"),
        ("nodes/x.py", "from ...elsewhere import y"),
        ("nodes/host/x.py", "from ..stages import NODES"),
        ("nodes/host/model/x.py", "from ..ui.progress import TrainingProgress"),
        ("benchmarks/x.py", "from ..tests.support import server"),
        ("devkit/x.py", "from ..benchmarks import bench"),
    ],
)
def test_a_forbidden_import_is_seen(place, source):
    assert len(violations(source, ROOT / place)) == 1


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("attndb/x.py", "import torch\nfrom .config import presets"),
        ("attndb/methods/x.py", "from ..config.presets import paper"),
        ("nodes/x.py", "from comfy_api.latest import io\nfrom .host.model import weights"),
        ("nodes/host/model/x.py", "import comfy.sd\nfrom ....attndb.models.protocol import Model"),
        ("nodes/micro.py", "from ..micro import concepts"),
        ("benchmarks/x.py", "from ..devkit import tiny_model"),
    ],
)
def test_an_allowed_import_is_let_through(place, source):
    assert violations(source, ROOT / place) == []
