"""What the contest's programs ask for, and the processes that share their rows."""

import argparse
import json
import os
import time

import pytest
import torch

from attndreambooth.benchmarks.contest import command

OTHER = """
import json, sys, time
from pathlib import Path
Path(sys.argv[1]).write_text(json.dumps(sys.argv[2:]))
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
    options = _options(*arguments)
    asked = command.asked_by(options, "two")
    assert (options.jobs, options.threads, threads) == (jobs, each, [each])
    assert (asked.places, asked.images, asked.seed, asked.precision) == ("two", 3, 0, "auto")


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
    assert json.loads(said.read_text()) == ["--jobs", "2", "--jobs", "1", "--threads", "3"]
    assert _options(*json.loads(said.read_text())).jobs == 1, "the last word counts"


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
