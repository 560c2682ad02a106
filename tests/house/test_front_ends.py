"""The newest front end: pinned by its content, unpacked whole, newer than the hosts' own."""

from __future__ import annotations

import hashlib
import re
import zipfile

import pytest

from attndreambooth.devkit.console import SetupError
from attndreambooth.devkit.front_ends import (
    FRONT_ENDS,
    NEWEST_FRONT_END,
    PACKAGE,
    front_end_of,
    unpack_page,
)
from attndreambooth.devkit.host_path import host_root
from attndreambooth.devkit.pack import ROOT


def number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "front.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("comfyui_frontend_package/__init__.py", "")
        archive.writestr("comfyui_frontend_package/static/index.html", "<html>")
        archive.writestr("comfyui_frontend_package/static/assets/a.js", "1")
        archive.writestr("other/static/index.html", "")
    return path


def test_the_page_alone_is_unpacked(wheel, tmp_path):
    unpack_page(wheel, hashlib.sha256(wheel.read_bytes()).hexdigest(), tmp_path / "page")
    found = [p.relative_to(tmp_path / "page").as_posix() for p in (tmp_path / "page").rglob("*.*")]
    assert sorted(found) == ["assets/a.js", "index.html"]


def test_another_wheel_than_the_one_that_is_known_is_refused(wheel, tmp_path):
    with pytest.raises(SetupError, match=r"front\.whl: sha256 is .*, expected 0000"):
        unpack_page(wheel, "0" * 64, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_the_newest_is_newer_than_the_hosts_own_and_pinned():
    assert number(NEWEST_FRONT_END) > number(front_end_of(host_root()))
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in FRONT_ENDS.values())
    locked = (ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8")
    assert f"{PACKAGE}=={front_end_of(host_root())}" in locked
