"""State of files: it changes when they do, and says why there are none."""

from __future__ import annotations

import os


def test_it_changes_with_content_time_and_number_and_not_without(tmp_path):
    from attndreambooth.nodes.host.file_state import files_state

    def state() -> str:
        return files_state(lambda: sorted(tmp_path.iterdir()))

    states = [state()]
    one = tmp_path / "one"
    one.write_text("1")
    states.append(state())
    one.write_text("11")
    states.append(state())
    os.utime(one, ns=(1, 1))
    states.append(state())
    (tmp_path / "two").write_text("1")
    states.append(state())
    one.rename(tmp_path / "other")
    states.append(state())
    assert len(set(states)) == 6 and state() == states[-1]


def test_it_says_why_there_are_no_files(tmp_path):
    from attndreambooth.nodes.host.file_state import files_state

    def none():
        raise ValueError("folder is empty: choose one")

    assert files_state(none) == "folder is empty: choose one"
    assert "gone" in files_state(lambda: [tmp_path / "gone"])
