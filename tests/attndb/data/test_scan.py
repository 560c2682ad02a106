"""What a walk through a folder of photos takes for a link."""

from __future__ import annotations

import stat
from types import SimpleNamespace

from attndreambooth.attndb.data.scan import is_link


def test_a_junction_of_windows_is_a_link(tmp_path):
    """`is_symlink` says no; it would lead out of the allowed folders."""
    junction = SimpleNamespace(st_mode=stat.S_IFDIR, st_reparse_tag=0xA0000003)
    assert is_link(SimpleNamespace(lstat=lambda: junction))
    (tmp_path / "link").symlink_to(tmp_path)
    assert is_link(tmp_path / "link") and not is_link(tmp_path)
