"""Partial files: those of the dead are removed, those of the living are not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from attndreambooth.attndb.artifacts import partial_files
from attndreambooth.attndb.artifacts.partial_files import (
    forget_partials,
    partial_neighbour,
    remove_stale_partial_files,
)


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.skipif(os.name == "nt", reason="processes are not asked there: age decides")
def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    mine = partial_neighbour(tmp_path / "a.safetensors")
    machine = mine.name.split(".")[-2].split("-")[0]
    earlier = tmp_path / f".a.safetensors.{machine}-{os.getpid()}-999999.part"  # same number, dead
    dead, parent = dead_process(), os.getppid()
    stale = [
        earlier,
        tmp_path / f".a.safetensors.{machine}-{dead}-0.part",
        tmp_path / f".a.safetensors.{dead}.part",
        tmp_path / ".old.safetensors.ffffff-1-0.part",
    ]
    staying = [
        mine,
        tmp_path / f".a.safetensors.{machine}-{parent}-0.part",
        tmp_path / f".a.safetensors.{'0' if machine[0] != '0' else '1'}{machine[1:]}-{dead}-0.part",
        tmp_path / ".somebody.part",
        tmp_path / "a.safetensors",
    ]
    for path in (*stale, *staying):
        path.write_bytes(b"half")
    for path in (stale[-1], mine):  # or the clock was put forward meanwhile
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    assert sorted(remove_stale_partial_files(tmp_path)) == sorted(stale)
    assert sorted(tmp_path.iterdir()) == sorted(staying)
    forget_partials([mine])
    assert not mine.exists()


def test_containers_with_one_name_count_processes_of_their_own(monkeypatch):
    plain = partial_files._machine()
    assert plain == partial_files._machine()
    monkeypatch.setattr(os, "readlink", lambda path: f"{path} of another container")
    assert partial_files._machine() != plain
    monkeypatch.delattr(os, "readlink")
    assert len(partial_files._machine()) == len(plain)


def test_a_folder_that_is_not_there_holds_none(tmp_path):
    assert remove_stale_partial_files(tmp_path / "nowhere") == []
