"""Two commands of dev.py on a new machine: one sets up, the other waits."""

import subprocess
import sys
import time

import pytest

from attndreambooth.devkit.alone import alone
from attndreambooth.devkit.pack import ROOT

OTHER = """
import sys
from pathlib import Path
from devkit.alone import alone
with alone(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that asks for the same lock; it leaves on a line of its input."""
    command = [sys.executable, "-c", OTHER, str(tmp_path / "cache" / "setup.lock")]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **streams) as process:
        yield process
        process.kill()


def test_the_second_waits_until_the_first_is_done(other, tmp_path):
    with alone(tmp_path / "cache" / "setup.lock"):
        assert other.stdout.readline().startswith("[dev] another command of dev.py is setting up")
        time.sleep(0.6)
        assert other.poll() is None
    assert other.stdout.readline() == "inside\n"


def test_one_that_dies_holds_nobody_up(other, tmp_path, capsys):
    assert other.stdout.readline() == "inside\n"
    other.kill()
    other.wait()
    with alone(tmp_path / "cache" / "setup.lock"):
        assert capsys.readouterr().out == ""


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of Unix")
def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    import errno
    import fcntl

    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with alone(tmp_path / "setup.lock"):
        pass
