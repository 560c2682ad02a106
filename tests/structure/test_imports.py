"""Dependencies point one way: nodes -> nodes/host -> attndb, and inside attndb downwards."""

from __future__ import annotations

import pytest
from support.pack import ROOT
from support.sources import imports_of, module_name, python_files

HOST_MODULES = {
    *("comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras"),
    *("app", "api_server", "execution", "folder_paths", "latent_preview", "main", "middleware"),
    *("node_helpers", "nodes", "protocol", "server", "utils"),
}
OWN_TOPS = {"attndb", "nodes", "demo", "benchmarks", "tests"}
MAY_IMPORT = {
    # of the pack's other folders; a folder may always import itself
    "attndb": set(),
    "nodes": {"attndb"},
    "demo": {"attndb"},
}
PROGRAMS = {"demo.personalise", "demo.evaluation"}
"""Of demo/, what a person runs: they use the whole pack as a graph does, and nothing imports them.
The rest of demo/ is a library below the nodes."""
LAYERS = [f"attndb.{n}" for n in ("config", "tokens", "regularizer", "attention", "trainer")]
"""Of attndb, lowest first: a layer imports none above it."""


def violations(source: str, path) -> list[str]:
    """Every import in `source` that its place in the tree forbids, as `line: reason`."""
    name = module_name(path)
    folder = name.split(".")[0]
    found = []
    for item in imports_of(source, path):

        def bad(reason: str, item=item) -> None:
            found.append(f"{item.line}: imports {item.name}: {reason}")

        if not item.inside:
            if item.top == "attndb":
                bad("inside the pack imports are relative")
            if item.top in HOST_MODULES:
                if folder == "attndb":
                    bad("the core never imports the host")
                elif not name.startswith(("nodes.host", "demo")) and item.top != "comfy_api":
                    bad("only nodes/host touches the host's insides")
            continue
        if item.name.startswith("<outside>") or not item.name:
            bad("leaves the pack")
        elif item.top != folder and item.top in OWN_TOPS:
            program = name in PROGRAMS and item.top == "nodes"
            demo_node = name in ("nodes.demo", "nodes.host.micro") and item.top == "demo"
            if item.top not in MAY_IMPORT.get(folder, OWN_TOPS) and not (demo_node or program):
                bad(f"{folder}/ does not depend on {item.top}/")
        if item.name in PROGRAMS and folder != "demo":
            bad("nothing imports a program")
        if name.startswith("nodes.host") and item.top == "nodes" and ".host" not in item.name:
            bad("the seam does not depend on the nodes")
        if name == "attndb.config":
            bad("config uses nothing")
        elif name in LAYERS and item.name in LAYERS[LAYERS.index(name) + 1 :]:
            bad("dependencies inside attndb point downwards")
    return found


@pytest.mark.parametrize(
    "path", python_files("attndb", "nodes", "demo"), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_imports_point_one_way(path):
    assert violations(path.read_text(encoding="utf-8"), path) == []


def test_the_core_has_no_import_cycle():
    graph = {}
    for path in python_files("attndb"):
        found = imports_of(path.read_text(encoding="utf-8"), path)
        graph[module_name(path)] = {i.name for i in found if i.inside and i.top == "attndb"}
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


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("attndb/x.py", "import comfy.sd"),
        ("attndb/x.py", "def f():\n    from folder_paths import base_path"),
        ("attndb/x.py", "from ..nodes import host"),
        ("attndb/x.py", "from attndb.config import paper"),
        ("attndb/attention.py", "from .trainer import train_stage"),
        ("attndb/config.py", "from .tokens import span"),
        ("nodes/x.py", "import comfy.utils"),
        ("nodes/x.py", "from ..demo import world"),
        ("nodes/x.py", "from ...elsewhere import y"),
        ("nodes/host/x.py", "from ..stages import NODES"),
        ("demo/x.py", "from ..nodes import stages"),
    ],
)
def test_a_forbidden_import_is_seen(place, source):
    assert len(violations(source, ROOT / place)) == 1


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("attndb/x.py", "import torch\nfrom .config import paper"),
        ("attndb/methods/x.py", "from ..config import paper"),
        ("nodes/x.py", "from comfy_api.latest import io\nfrom .host import backend"),
        ("nodes/host/x.py", "import comfy.sd\nfrom ...attndb.backend import Backend"),
        ("nodes/demo.py", "from ..demo import loader"),
    ],
)
def test_an_allowed_import_is_let_through(place, source):
    assert violations(source, ROOT / place) == []
