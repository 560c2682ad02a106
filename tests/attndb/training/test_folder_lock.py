"""A folder is in use only when the system says that somebody has its lock."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from attndreambooth.attndb.training.folder_lock import FolderLock, FolderLockedError
from attndreambooth.devkit.pack import ROOT

posix = pytest.mark.skipif(os.name == "nt", reason="the lock is taken by flock here")
HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pack import load_pack
load_pack()
from attndreambooth.attndb.training.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[2]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path):
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(FolderLockedError, match="in use by another training"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_another_process_has_it_until_it_is_killed(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ROOT / "devkit"), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(FolderLockedError, match="in use by another training"):
                FolderLock(path).acquire()
        finally:
            holder.kill()
    lock = FolderLock(path)
    lock.acquire()
    lock.release()


@posix
@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN, 0])
def test_these_answers_mean_that_it_is_held(tmp_path, monkeypatch, number):
    refuse(monkeypatch, number)
    with pytest.raises(FolderLockedError):
        FolderLock(tmp_path / "lock").acquire()


@posix
@pytest.mark.parametrize("name", ["ENOTSUP", "ENOSYS", "ENOLCK", "EIO"])
def test_any_other_is_a_warning_once_and_the_training_goes_on(tmp_path, monkeypatch, caplog, name):
    refuse(monkeypatch, getattr(errno, name))
    monkeypatch.setattr("attndreambooth.attndb.training.folder_lock._WARNED", set())
    for _ in range(2):
        lock = FolderLock(tmp_path / "lock")
        lock.acquire()
        lock.release()
    assert caplog.text.count("this file system has no locks") == 1
    assert str(tmp_path) in caplog.text


def refuse(monkeypatch, number):
    import fcntl

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@posix
def test_a_process_that_was_forked_meanwhile_does_not_keep_it(tmp_path):
    """E.g. another pack's workers, which live on with all that was open."""
    lock = FolderLock(tmp_path / "lock")
    lock.acquire()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        os.read(ours, 1)  # until the test is over
        os._exit(0)
    try:
        lock.release()
        again = FolderLock(tmp_path / "lock")
        again.acquire()
        again.release()
    finally:
        os.close(theirs)
        os.waitpid(child, 0)
        os.close(ours)
