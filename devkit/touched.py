"""Which tests a change touches most: read from git, and from who imports whom.

Standard library only, as `suite` is.
"""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .pack import ROOT
from .sources import imports_of, module_name, python_files

BASES = ("origin/main", "main", "origin/HEAD")
"""What a branch is compared with: the first of these that git knows."""
READ_BY = {
    "web/": ("tests/nodes/test_help_pages.py",),
    "workflows/": ("tests/house/test_layout.py",),
    "docs/": ("tests/house/test_docs.py",),
    "README.md": ("tests/house/test_docs.py",),
    "CONTRIBUTING.md": ("tests/house/test_docs.py",),
}
"""By where a file lies that is no Python: the tests that read it."""
_NODE_ID = re.compile(r'node_id="(\w+)"')
_FOLDERS = ("attndb", "micro", "nodes", "headless", "devkit", "demo", "benchmarks", "tests")


def touched_files(root: Path = ROOT) -> list[str]:
    """Paths from the root that differ from the merge base with main, committed or not, new files
    included; none where git cannot say."""
    known = (_git(root, "merge-base", "HEAD", base) for base in BASES)
    base = next((found[0] for found in known if found), "HEAD")
    changed = _git(root, "diff", "--name-only", "--no-renames", base)
    new = _git(root, "ls-files", "--others", "--exclude-standard")
    return sorted({*changed, *new})


def _git(root: Path, *arguments: str) -> list[str]:
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *arguments],  # noqa: S607 (git of the user's PATH)
            cwd=root,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return done.stdout.splitlines()


def tests_of(touched: Iterable[str]) -> list[str]:
    """Test files that reach a touched file, nearest first.

    A changed test comes first, then those that import what was changed or name its node, then
    those that import its users, or are of its own room, and so on.
    """
    touched = list(touched)
    users = _users()
    steps = {place.removesuffix("/__init__.py"): 0 for place in touched if place.endswith(".py")}
    queue = list(steps)
    for place in queue:
        for user in sorted(users.get(place, set()) - steps.keys()):
            steps[user] = steps[place] + 1
            queue.append(user)
    for place in touched:
        near = {test: 2 for test in _beside(place)}
        for folder, tests in READ_BY.items():
            near |= dict.fromkeys(tests if place.startswith(folder) else (), 0)
        steps |= {test: min(far, steps.get(test, far)) for test, far in near.items()}
    tests = [place for place in steps if Path(place).name.startswith("test_")]
    return sorted((t for t in tests if (ROOT / t).is_file()), key=lambda t: (steps[t], t))


def _beside(place: str) -> list[str]:
    """The tests of a shipped file's room: those in the folder of tests/ that mirrors its own."""
    folder = ROOT / "tests" / Path(place).parent
    if not place.endswith(".py") or place.startswith("tests/") or folder == ROOT / "tests":
        return []
    return [path.relative_to(ROOT).as_posix() for path in sorted(folder.glob("test_*.py"))]


@functools.cache
def _users() -> dict[str, set[str]]:
    """By file: the files that import it, a conftest's tests and the tests that name its nodes."""
    files = {module_name(path): path for path in python_files(*_FOLDERS)}
    places = {name: _place(path) for name, path in files.items()}
    sources = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    makers = {i: name for name, text in sources.items() for i in _NODE_ID.findall(text)}
    users: dict[str, set[str]] = {}
    for name, path in files.items():
        used = {item.name for item in imports_of(sources[name], path)}
        used |= {f"tests.{found}" for found in used}  # tests are on pytest's path
        if path.name.startswith("test_"):
            above = path.relative_to(ROOT).parents
            used |= {".".join((*folder.parts, "conftest")) for folder in above}
            used |= {maker for word, maker in makers.items() if word in sources[name]}
        for found in used & files.keys() - {name}:
            users.setdefault(places[found], set()).add(places[name])
    return users


def _place(path: Path) -> str:
    """A file as path from the root; a package's `__init__` is the package."""
    return path.relative_to(ROOT).as_posix().removesuffix("/__init__.py")
