"""Lines and the bar of a training that nobody can be told: it goes on, and says so once."""

from __future__ import annotations

import errno
import json

import pytest


class Disk:
    """An output to a file on a disk that is full for a while."""

    encoding = "utf-8"

    def __init__(self, error: OSError) -> None:
        self.error: OSError | None = error
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text  # as a buffer does
        return len(text)

    def flush(self) -> None:
        if self.error is not None:
            raise self.error

    def isatty(self) -> bool:
        return False


def tell(told) -> None:
    told.begin(["one", "two"])
    told.subject("one", 1, [("stage 1", 3)])
    told.saved("one", [], "<one> dog")
    told.subject("two", 2, [("stage 1", 3)])
    told.failed("for a reason")
    told.end({"trained": ["one"], "failed": ["two"], "not_begun": []})


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("number", ["ENOSPC", "EIO", "EDQUOT"])
def test_an_output_that_takes_nothing_ends_no_training(host, caplog, as_json, number):
    from attndreambooth.headless.report import report

    disk = Disk(OSError(getattr(errno, number), number))
    with report(as_json, disk) as told:
        tell(told)
        disk.error = None
        told.end({"trained": [], "failed": [], "not_begun": []})
    assert caplog.text.count(f"the output takes nothing ({number}): the training goes on") == 1
    if as_json:
        assert [json.loads(line)["event"] for line in disk.text.splitlines()][-3:] == [
            *("failed", "end", "end")
        ]


def test_a_program_that_has_stopped_reading_ends_it(host):
    from attndreambooth.headless.report import report

    with report(True, Disk(BrokenPipeError(errno.EPIPE, "gone"))) as told:
        with pytest.raises(BrokenPipeError):
            tell(told)
