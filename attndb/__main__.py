"""`python -m attndb`: the method without a graph. `inspect` looks at files, `train` trains,
`evaluate` scores."""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import json
import runpy
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

PACK = "attndreambooth"
_WITH_HOST = {"train": "program", "evaluate": "evaluate"}
"""Commands that need ComfyUI, and what they are called in headless/."""


def inspect(options: argparse.Namespace) -> int:
    """Says what lies at every path; 2 if something is wrong with one of them."""
    from .config.printable import printable
    from .inspection import inspect as look

    found = [look(path) for path in options.paths]
    if options.json:
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    else:
        for one in found:
            _tell(f"{one.path}: {one.kind}")
            for name, value in one.facts.items():
                text = printable(value) if isinstance(value, str) else json.dumps(value)
                _tell(f"  {name}: {text}")
            for problem in one.problems:
                _tell(f"  PROBLEM {problem}")
    return 2 if any(one.problems for one in found) else 0


def _tell(line: str) -> None:
    """Writes a line; what the output has no letters for (a pipe on Windows) is spelt out."""
    letters = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(letters, "backslashreplace").decode(letters) + "\n")


def with_host(program: str, arguments: Sequence[str]) -> int:
    """Hands a command on that needs ComfyUI, which nothing in attndb knows: to headless/, above it.

    The pack becomes a package of its own name there: were its folder on `sys.path`, its `nodes`
    would be mistaken for ComfyUI's.
    """
    root = Path(__file__).resolve().parents[1]
    spec = importlib.machinery.ModuleSpec(PACK, None, is_package=True)
    spec.submodule_search_locations = [str(root)]
    sys.modules[PACK] = importlib.util.module_from_spec(spec)
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != root]
    return importlib.import_module(f"{PACK}.headless.{program}").main(arguments)


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    if arguments and arguments[0] in _WITH_HOST:  # they have arguments of ComfyUI's
        return with_host(_WITH_HOST[arguments[0]], arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m attndb", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    looking = commands.add_parser(
        "inspect",
        help="what a folder of photos or of diffusers, a run, an embedding, weights or a workflow "
        "holds",
    )
    looking.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    looking.add_argument("--json", action="store_true", help="a JSON list instead of lines")
    looking.set_defaults(run=inspect)
    commands.add_parser("train", help="subjects of a file, without a server (docs/headless.md)")
    commands.add_parser("evaluate", help="scores of concepts or pictures (docs/headless.md)")
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    if __package__:
        sys.exit(main(sys.argv[1:]))
    # Started by this folder's path, as the Python of ComfyUI's portable edition has to: it does not
    # look for `-m attndb` where it is started.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("attndb", run_name="__main__", alter_sys=True)
