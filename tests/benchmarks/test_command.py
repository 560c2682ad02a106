"""What the contest's programs ask for, and the processes that share their rows."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from attndreambooth.benchmarks.contest import command

OTHER = """
import json, sys, time
from pathlib import Path
Path(sys.argv[1]).write_text(json.dumps(sys.argv[2:]))
time.sleep(600)
"""

ENDING = """
import argparse, sys, time
sys.path.insert(0, {tests!r})
from support import load_pack
load_pack()
from tempfile import TemporaryDirectory
from attndreambooth.benchmarks.contest import command
command.host_on_path = lambda cpu: None
parser = argparse.ArgumentParser()
command.add_options(parser, command.Path("rows"), images=1)
command.asked_by(parser.parse_args(["--beside"]))
with TemporaryDirectory():
    print("open", flush=True)
    time.sleep(600)
"""


def _options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_options(parser, command.Path("rows"), images=3)
    return parser.parse_args(arguments)


@pytest.fixture
def threads(monkeypatch):
    """What PyTorch is told, and nothing else is done."""
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(command, "host_on_path", lambda cpu: None)
    return told


@pytest.mark.parametrize(
    ("cores", "card", "arguments", "jobs", "each"),
    [
        (2, False, (), 2, 1),
        (16, False, (), command.MOST_JOBS, 4),
        (16, False, ("--jobs", "2"), 2, 8),
        (2, False, ("--jobs", "3"), 3, 1),
        (8, False, ("--jobs", "2", "--threads", "1"), 2, 1),
        (8, True, (), 1, 8),
    ],
)
def test_cores_are_shared_by_the_processes(
    threads, monkeypatch, cores, card, arguments, jobs, each
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    monkeypatch.setattr(command, "computes_in_bf16", lambda _, device: device.type == "cuda")
    options = _options(*arguments)
    asked = command.asked_by(options, "two")
    assert (options.jobs, options.threads, threads) == (jobs, each, [each])
    assert (asked.places, asked.images, asked.seed) == ("two", 3, 0)
    assert asked.precision == ("bf16" if card else "fp32"), "a row says what auto was"


def test_others_are_started_with_the_same_request_and_end_with_the_block(tmp_path):
    program, said = tmp_path / "other.py", tmp_path / "said.json"
    program.write_text(OTHER)
    options = argparse.Namespace(jobs=2, threads=3)
    with command.beside(options, str(program), [str(said), "--jobs", "2"]) as others:
        assert len(others) == 1
        end = time.monotonic() + 60
        while not said.is_file() or not said.read_text():
            assert time.monotonic() < end and others[0].poll() is None
            time.sleep(0.05)
    assert others[0].returncode is not None
    told = json.loads(said.read_text())
    assert told == ["--jobs", "2", "--jobs", "1", "--threads", "3", "--beside"]
    assert _options(*told).jobs == 1 and _options(*told).beside, "the last word counts"


def test_one_that_is_told_to_end_takes_its_temporary_folder_along(tmp_path):
    program = tmp_path / "other.py"
    program.write_text(ENDING.format(tests=str(Path(__file__).parents[1])))
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, program], env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline().strip() == b"open"
    assert list(tmp_path.glob("tmp*"))
    process.terminate()
    assert process.wait(60) == 1 and not list(tmp_path.glob("tmp*"))


def test_others_end_with_an_error_of_the_block(tmp_path):
    program = tmp_path / "other.py"
    program.write_text("import time; time.sleep(600)")
    with (
        pytest.raises(RuntimeError, match="stopped"),
        command.beside(argparse.Namespace(jobs=3, threads=1), str(program), []) as others,
    ):
        raise RuntimeError("stopped")
    assert [other.poll() is None for other in others] == [False, False]


def test_one_job_starts_nobody():
    with command.beside(argparse.Namespace(jobs=1, threads=1), "no such program", []) as others:
        assert others == []
