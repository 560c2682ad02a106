"""`python -m attndb`: the method without a graph. `inspect` today; more commands come."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path


def inspect(options: argparse.Namespace) -> int:
    """Says what lies at every path; 2 if something is wrong with one of them."""
    from .inspection import inspect as look

    found = [look(path) for path in options.paths]
    if options.json:
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    else:
        for one in found:
            sys.stdout.write(f"{one.path}: {one.kind}\n")
            for name, value in one.facts.items():
                text = value if isinstance(value, str) else json.dumps(value)
                sys.stdout.write(f"  {name}: {text}\n")
            for problem in one.problems:
                sys.stdout.write(f"  PROBLEM {problem}\n")
    return 2 if any(one.problems for one in found) else 0


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m attndb", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    looking = commands.add_parser(
        "inspect",
        help="what a folder of photos or of diffusers, an embedding, weights or a workflow holds",
    )
    looking.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    looking.add_argument("--json", action="store_true", help="a JSON list instead of lines")
    looking.set_defaults(run=inspect)
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
