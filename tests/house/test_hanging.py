"""What hangs is told by name and place: a failed test at once, a server that does not cancel by
the stacks of its threads."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from support import server as server_module
from support.failures import LINES, FailuresAsTheyCome
from support.server import HostServer

STUBBORN = """
import signal, time
signal.signal(signal.SIGABRT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
STUCK = """
import threading
print("ready", flush=True)
def the_lock_that_nobody_frees(): threading.Event().wait()
the_lock_that_nobody_frees()
"""


class Reporter:
    def __init__(self):
        self.lines: list[str] = []

    def write_line(self, line: str, **_: object) -> None:
        self.lines.append(line)


def test_a_failed_test_is_told_when_it_fails():
    reporter = Reporter()
    told = FailuresAsTheyCome(reporter)
    said = "\n".join(f"line {i}" for i in range(100))
    for failed in (False, True):
        told.pytest_runtest_logreport(
            SimpleNamespace(failed=failed, when="setup", nodeid="a.py::b", longreprtext=said)
        )
    assert reporter.lines[1] == "FAILED (setup) a.py::b"
    assert reporter.lines[2:] == [f"    line {i}" for i in range(100 - LINES, 100)]


def started(folder, program: str) -> HostServer:
    server = HostServer(folder, with_pack=False)
    with server.log_path.open("ab") as log:
        command = [sys.executable, "-X", "faulthandler", "-c", program]
        server.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    while "ready" not in server.log():
        time.sleep(0.05)
    return server


no_abort = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGABRT from outside")


@no_abort
def test_a_server_that_does_not_cancel_shows_where_it_stands(tmp_path):
    server = started(tmp_path, STUCK)
    assert "the_lock_that_nobody_frees" in server._cancelled()
    assert server.process.poll() is not None


@no_abort
def test_one_that_does_not_end_is_killed_and_the_report_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "ABORT_SECONDS", 0.2)
    server = started(tmp_path, STUBBORN)
    assert "not cancelled" in server._cancelled()
    assert server.process.poll() is not None
