"""What `dev.py test` runs: everything, the quick part, or the part for a CUDA card, piece by piece.

Standard library only, so that it also runs from a bare copy of the tree.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import touched
from .pack import ROOT

REPORTS = ROOT / ".cache" / "cuda"
DEVICE = "ATTNDB_DEVICE"
"""Environment variable: where models of the tests are, `cpu` (default) or `cuda`."""
WORKERS = 3
"""One more than there are cores, at most: whoever has a server or a page waits for it a good part
of the time."""
WORKER_GB = 4
"""Main memory that a worker, its servers and its page take at their most."""
PIECE_SECONDS = 470

FAST = ["-m", "not slow and not host and not browser", "--durations=0", "--durations-min=5"]
"""No server, nothing long."""
SLOW = ("tests/host/", "tests/browser/")
ALWAYS = ["tests/structure"]
CORE = [
    *("tests/attndb/config", "tests/attndb/losses", "tests/attndb/models", "tests/house"),
    *("tests/attndb/attention", "tests/attndb/artifacts", "tests/attndb/training/test_trainer.py"),
    *("tests/nodes/test_help_pages.py", "tests/nodes/test_concept.py"),
]
"""What `--quick` runs where nothing was touched."""
SHOTS = "ATTNDB_SHOTS"
"""Environment variable: the folder where tests in the page leave pictures of it."""
QUICK_FILES = 40
"""Most files of tests that `--quick` collects: the nearest."""
QUICK_SECONDS = 65
"""After so long `--quick` starts no further test, and says how many it left out."""
SECONDS = "ATTNDB_TEST_SECONDS"
"""Environment variable: how long tests are started, counted from the first."""
CUDA = {
    "core": ["tests/attndb/training/test_on_card.py"],
    "nodes": ["tests/nodes"],
    "attention": ["tests/attention"],
    "host-trainings": ["tests/host/test_main_job.py", "tests/host/test_memory.py"],
    "host-control": ["tests/host/test_run_control.py", "tests/host/test_attention.py"],
    "host-crash": ["tests/host/test_crash.py", "tests/host/test_full_disk.py"],
}
"""By piece: the tests with their models on a card, each in less than eight minutes. Of the core
only those that are about one: its others make their models on the CPU, whatever the device."""


@dataclass(frozen=True)
class Plan:
    """One run of pytest, and whether the other checks come first."""

    arguments: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    types: bool = True
    """Whether pyright runs, too."""


def options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The suite's own options, and what pytest is given."""
    parser = argparse.ArgumentParser(prog="dev.py test", add_help=False, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="what was touched, no server")
    parser.add_argument("--browser", action="store_true", help="in the page; keeps its pictures")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--piece", choices=list(CUDA), action="append", help="with --device cuda")
    return parser.parse_known_args(arguments)


def plan(arguments: Sequence[str]) -> Plan:
    """The run that these arguments of `dev.py test` ask for.

    Two or three workers share the whole suite, one thread each; what is named runs in one process.
    `--quick` takes the tests nearest to what git says was touched, as many as its time allows.
    """
    chosen, rest = options(arguments)
    if chosen.browser:
        folder = Path(os.environ.get(SHOTS) or ROOT / ".cache" / "browser")
        folder.mkdir(parents=True, exist_ok=True)
        named = any((ROOT / text.partition("::")[0]).exists() for text in rest)
        return Plan([*([] if named else ["tests/browser"]), *rest], {SHOTS: str(folder)})
    quick, limit = [], {}
    if chosen.quick:
        near = touched.tests_of(touched.touched_files())
        near = [test for test in near if not test.startswith(SLOW)]
        quick = [*ALWAYS, *(near[:QUICK_FILES] or CORE), *FAST]
        limit = {SECONDS: str(QUICK_SECONDS)}
    named = any(not text.startswith("-") for text in rest)
    if named or any(text in ("-s", "--pdb", "-n", "-p") for text in rest):
        return Plan([*quick, *rest], limit, not chosen.quick)
    workers = _workers()
    # the order stays: the nearest first, or what takes long (tests/conftest.py)
    shared = ["-n", str(workers), "--dist", "loadgroup", "--no-loadscope-reorder"]
    shared = shared if workers > 1 else []
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if shared else {}
    return Plan([*quick, *shared, *rest], {**threads, **limit}, not chosen.quick)


def _workers() -> int:
    """Of the whole suite, by cores and main memory."""
    cores = os.cpu_count() or 1
    if cores == 1:
        return 1
    try:
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (WORKER_GB * 1e9)
    except (AttributeError, ValueError, OSError):  # Windows does not say
        room = 2
    return max(2, min(WORKERS, cores + 1, int(room)))


def run_on_card(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs the pieces with this very Python, no setup and no network; a JSON for each."""
    chosen, rest = options(arguments)
    REPORTS.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in chosen.piece or CUDA:
        found = _run_piece(name, rest, {**environ, DEVICE: "cuda"})
        (REPORTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        failed += found["code"] != 0
    return 1 if failed else 0


def _run_piece(name: str, rest: Sequence[str], environ: Mapping[str, str]) -> dict[str, object]:
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *CUDA[name], f"--junitxml={report}", *rest]
    start = time.monotonic()
    try:
        code = subprocess.call(command, cwd=ROOT, env=dict(environ), timeout=PIECE_SECONDS)
    except subprocess.TimeoutExpired:
        code = 124
    return {
        "piece": name,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "code": code,
        "seconds": round(time.monotonic() - start, 1),
        **read_report(report),
    }


def read_report(report: Path) -> dict[str, object]:
    """Counts, the failed tests and what tests have measured, from pytest's XML; {} without one."""
    if not report.is_file():
        return {}
    suite = next(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314 (pytest's own file)
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    failed, measured = {}, {}
    for case in suite.iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                failed[test] = (found.get("message") or "")[:300]
        values = {str(p.get("name")): p.get("value") for p in case.iter("property")}
        if values:
            measured[test] = values
    return {**counts, "failed": failed, "measured": measured}
