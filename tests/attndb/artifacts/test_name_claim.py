"""Of all who want a name at one moment one gets it, with all of its files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from attndreambooth.attndb.artifacts.name_claim import claim_whole, holds
from attndreambooth.attndb.artifacts.tensor_file import text_writer
from attndreambooth.devkit.pack import ROOT


def pair(folder, text):
    return {
        folder / "w" / "name": text_writer(f"w{text}"),
        folder / "e" / "name": text_writer(text),
    }


def content(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def links(request, monkeypatch):
    """A file system with and without hard links."""

    def refused(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not request.param:
        monkeypatch.setattr(os, "link", refused)


def test_a_free_name_is_taken_whole(tmp_path, links):
    assert claim_whole(pair(tmp_path, "mine"))
    assert content(tmp_path) == {"w/name": "wmine", "e/name": "mine"}


@pytest.mark.parametrize("taken", ["w", "e"])
def test_a_name_that_is_half_taken_is_left_alone(tmp_path, links, taken):
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "name").write_text("theirs")
    assert not claim_whole(pair(tmp_path, "mine"))
    assert content(tmp_path) == {f"{taken}/name": "theirs"}


def test_the_very_same_content_counts_as_written_and_is_not_touched(tmp_path, links):
    assert claim_whole(pair(tmp_path, "mine"))
    before = (tmp_path / "w" / "name").stat()
    (tmp_path / "e" / "name").unlink()
    assert claim_whole(pair(tmp_path, "mine"))
    assert (tmp_path / "w" / "name").stat().st_mtime_ns == before.st_mtime_ns
    assert content(tmp_path) == {"w/name": "wmine", "e/name": "mine"}


def test_a_failure_in_the_middle_takes_back_what_was_placed(tmp_path, monkeypatch):
    plain = os.link

    def second_fails(source, target):
        if "e" in target.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(source, target)

    monkeypatch.setattr(os, "link", second_fails)
    with pytest.raises(OSError, match=r"No space left.*nothing was saved"):
        claim_whole(pair(tmp_path, "mine"))
    assert content(tmp_path) == {}


def test_content_is_compared_without_writing(tmp_path):
    path = tmp_path / "a"
    for there, same in (("whole", True), ("whol", False), ("wholes", False), ("whale", False)):
        path.write_text(there)
        assert holds(path, text_writer("whole")) == same
    assert not holds(tmp_path / "nothing", text_writer("whole"))


RACE = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from support import load_pack
load_pack()
from attndreambooth.attndb.artifacts.name_claim import claim_whole
from attndreambooth.attndb.artifacts.tensor_file import text_writer
folder, me = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range({rounds}):
    name = 1
    while True:
        paths = [folder / kind / f"{{number}}-{{name}}" for kind in ("w", "e")]
        if claim_whole({{path: text_writer(me) for path in paths}}):
            break
        name += 1
"""
ROUNDS, RACERS = 40, 3


def test_processes_that_race_for_names_all_keep_theirs(tmp_path):
    script = RACE.format(tests=str(ROOT / "tests"), rounds=ROUNDS)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(RACERS)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert [racer.wait(300) for racer in racers] == [0] * RACERS
    files = content(tmp_path)
    for number in range(ROUNDS):
        names = sorted(n for n in files if n.startswith(f"e/{number}-"))
        assert sorted(files[name] for name in names) == [str(racer) for racer in range(RACERS)]
        assert all(files[name] == files[f"w{name[1:]}"] for name in names)
    assert len(files) == 2 * RACERS * ROUNDS
