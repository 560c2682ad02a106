"""The tests that show that the pack works on a ComfyUI release, and the table of their results in
docs/host.md."""

from __future__ import annotations

import platform
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .pack import ROOT

SUITE = (
    *("tests/host/test_server.py", "tests/host/test_contract.py", "tests/host/test_main_job.py"),
    *("tests/host/test_crash.py", "tests/nodes/test_concept.py", "tests/nodes/test_families.py"),
    *("tests/nodes/test_promises.py", "tests/nodes/test_placeholders.py"),
    *("tests/nodes/test_two_concepts.py", "tests/nodes/test_sampling.py"),
    *("tests/attention/test_capture.py", "tests/attention/test_composition.py"),
    *("tests/attention/test_sampling.py", "tests/attention/test_nodes.py"),
)
"""What a host can break: a real server with the main job and a kill; the promises of training and
concepts, and the capture of attention, with the host's own classes."""
SMOKE = ("tests/host/test_server.py", "tests/host/test_contract.py", "tests/nodes/test_concept.py")
"""The pack loads, its nodes are there, three stages train, and a concept is applied and saved."""
TABLE = ROOT / "docs" / "host.md"
_PLACE = re.compile(r"(<!-- results -->\n).*(<!-- end of results -->)", re.DOTALL)


@dataclass(frozen=True)
class HostResult:
    """How the tests ended on one release."""

    version: str
    passed: int
    failed: int
    skipped: int
    seconds: float

    @property
    def row(self) -> str:
        """A line of the table."""
        state = "passes" if self.passed and not self.failed else "**fails**"
        counts = f"{self.passed} | {self.failed} | {self.skipped} | {self.seconds:.0f} s"
        return f"| {self.version} | {state} | {counts} |"


def read_result(version: str, report: Path) -> HostResult:
    """What a run of pytest said in its JUnit report; one failure if it wrote none."""
    try:
        suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 (our own)
        counts = [{k: float(s.get(k, 0)) for k in _COUNTED} for s in suites]
    except (OSError, ElementTree.ParseError):
        return HostResult(version, 0, 1, 0, 0.0)
    tests, failures, errors, skipped, seconds = (sum(c[k] for c in counts) for k in _COUNTED)
    failed = int(failures + errors)
    return HostResult(version, int(tests) - failed - int(skipped), failed, int(skipped), seconds)


_COUNTED = ("tests", "failures", "errors", "skipped", "time")


def write_table(results: Sequence[HostResult], command: str, path: Path = TABLE) -> None:
    """Puts the results into the document, with the command, the day and the machine."""
    rows = "\n".join(result.row for result in results)
    machine = f"Python {platform.python_version()}, {platform.system()}, CPU"
    text = (
        f"`{command}`, {time.strftime('%Y-%m-%d')}, {machine}:\n\n"
        "| ComfyUI | result | passed | failed | skipped | time |\n"
        f"|---|---|---|---|---|---|\n{rows}\n"
    )
    page = path.read_text(encoding="utf-8")
    if not _PLACE.search(page):
        raise ValueError(f"{path.name} has no place for the results")
    page = _PLACE.sub(lambda place: f"{place[1]}{text}{place[2]}", page)
    path.write_text(page, encoding="utf-8")
