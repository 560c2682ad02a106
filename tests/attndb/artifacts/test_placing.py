"""A file takes its name also where a virus scanner holds it for a moment, as on Windows."""

from __future__ import annotations

import os

import pytest

from attndreambooth.attndb.artifacts import placing
from attndreambooth.attndb.artifacts.folder_claim import claim_folder
from attndreambooth.attndb.artifacts.tensor_file import text_writer, write_whole


class Scanner:
    """Holds every file for some tries; counts the pauses."""

    def __init__(self, monkeypatch, tries: int, windows: bool = True) -> None:
        self.left, self.pauses = tries, []
        plain = os.replace

        def replace(old, new):
            if self.left:
                self.left -= 1
                raise PermissionError(13, "being used by another process")
            plain(old, new)

        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(placing, "_WINDOWS", windows)
        monkeypatch.setattr(placing.time, "sleep", self.pauses.append)


def test_a_file_that_is_held_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    scanner = Scanner(monkeypatch, 3)
    write_whole({tmp_path / "a.json": text_writer("{}")})
    assert (tmp_path / "a.json").read_text() == "{}" and len(scanner.pauses) == 3
    scanner.left = 1
    assert claim_folder(tmp_path / "folder", {"a.json": text_writer("{}")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "folder"]


@pytest.mark.parametrize(("windows", "pauses"), [(True, 5), (False, 0)])
def test_one_that_stays_held_is_an_error_soon_and_elsewhere_at_once(
    tmp_path, monkeypatch, windows, pauses
):
    scanner = Scanner(monkeypatch, 99, windows)
    with pytest.raises(OSError, match=r"a\.json could not be written, and nothing was saved"):
        write_whole({tmp_path / "a.json": text_writer("{}")})
    assert len(scanner.pauses) == pauses and sum(scanner.pauses) < 2
    assert list(tmp_path.iterdir()) == []
