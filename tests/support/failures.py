"""What failed is told at once, by name: a run that is cut off says what it had found."""

from __future__ import annotations

import pytest

LINES = 25


class FailuresAsTheyCome:
    """A plugin of pytest's: under the dots, each failed test and the last lines of what it said."""

    def __init__(self, reporter: pytest.TerminalReporter):
        self.reporter = reporter

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.failed:
            return
        said = report.longreprtext.splitlines()[-LINES:]
        self.reporter.write_line("")
        self.reporter.write_line(f"FAILED ({report.when}) {report.nodeid}", red=True)
        for line in said:
            self.reporter.write_line(f"    {line}")
