"""A folder that nobody may write to, as a read-only disk: root is somebody else meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """What is in the folder can be read inside, and nothing written. Its parents have to be open to
    everybody: not those of pytest's tmp_path."""
    if not hasattr(os, "seteuid"):
        pytest.skip("folders have no such modes here")
    user = os.geteuid()
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    if user == 0:  # root may write anywhere
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if user == 0:
            os.seteuid(user)
        for place in places:
            place.chmod(0o755)
