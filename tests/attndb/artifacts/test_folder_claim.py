"""A folder of files appears whole, under a name that is nobody else's, or not at all."""

from __future__ import annotations

import os
import threading

import pytest

from attndreambooth.attndb.artifacts.folder_claim import claim_folder, folder_holds
from attndreambooth.attndb.artifacts.partial_files import (
    partial_neighbour,
    remove_stale_partial_files,
)
from attndreambooth.attndb.artifacts.tensor_file import text_writer

FILES = {"a.txt": text_writer("one"), "b/c.txt": text_writer("two")}


def content(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_it_is_written_once_and_known_again(tmp_path):
    folder = tmp_path / "new" / "name"
    assert not folder_holds(folder, FILES)
    assert claim_folder(folder, FILES)
    assert content(folder) == {"a.txt": "one", os.path.join("b", "c.txt"): "two"}
    assert folder_holds(folder, FILES) and not claim_folder(folder, FILES)
    assert not folder_holds(folder, {**FILES, "a.txt": text_writer("other")})
    assert not folder_holds(folder, {**FILES, "d.txt": text_writer("")})
    assert [path.name for path in folder.parent.iterdir()] == ["name"]


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_what_has_the_name_is_not_touched(tmp_path, there):
    folder = tmp_path / "name"
    if there == "file":
        folder.write_text("mine")
    elif there == "folder":
        folder.mkdir()
    else:
        folder.symlink_to(tmp_path / "nowhere")
    assert not claim_folder(folder, FILES)
    assert folder.is_symlink() == (there == "link")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_leaves_nothing_and_names_the_file(tmp_path):
    def full(handle):
        handle.write(b"x" * 100)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: c\.txt could not be written"):
        claim_folder(tmp_path / "name", {**FILES, "b/c.txt": full})
    assert list(tmp_path.iterdir()) == []


def test_of_several_that_want_a_name_at_once_one_gets_it(tmp_path):
    won = []

    def want(number):
        if claim_folder(tmp_path / "name", {"who.txt": text_writer(str(number))}):
            won.append(str(number))

    threads = [threading.Thread(target=want, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [(tmp_path / "name" / "who.txt").read_text()]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_partial_folder_of_a_dead_process_is_removed(tmp_path):
    mine = partial_neighbour(tmp_path / "name")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))
    for folder in (mine, dead, tmp_path / "name"):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "half").write_bytes(b"half")
    if os.name != "nt":
        assert remove_stale_partial_files(tmp_path) == [dead]
        assert sorted(tmp_path.iterdir()) == sorted([mine, tmp_path / "name"])
