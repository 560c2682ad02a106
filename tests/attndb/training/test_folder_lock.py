"""A folder is in use only when the system says that somebody has its lock."""

from __future__ import annotations

import errno
import os

import pytest

from attndreambooth.attndb.training.folder_lock import FolderLock, FolderLockedError

fcntl = pytest.importorskip("fcntl", reason="the lock is taken by flock here")


def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path):
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(FolderLockedError, match="in use by another training"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


@pytest.mark.parametrize("name", ["EWOULDBLOCK", "EACCES", "EAGAIN"])
def test_these_answers_mean_that_it_is_held(tmp_path, monkeypatch, name):
    refuse(monkeypatch, getattr(errno, name))
    with pytest.raises(FolderLockedError):
        FolderLock(tmp_path / "lock").acquire()


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
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


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
