"""What the registry takes: its pictures' sizes, what its archive leaves out, the promised host."""

from __future__ import annotations

import re

from PIL import Image
from support.install import NOT_THE_PACK, pack_files

from attndreambooth.devkit.hosts import OLDEST_HOST
from attndreambooth.devkit.pack import ROOT


def test_the_icon_and_the_banner_have_the_registrys_sizes():
    with Image.open(ROOT / "docs/icon.png") as icon, Image.open(ROOT / "docs/banner.png") as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


def test_the_archive_leaves_out_what_an_installed_pack_does_not_have():
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    ignored = {line.rstrip("/") for line in lines if line and not line.startswith("#")}
    assert set(NOT_THE_PACK) <= ignored
    kept = {path.parts[0] for path in pack_files()} - ignored
    assert {"attndb", "nodes", "micro", "web", "workflows", "subgraphs", "__init__.py"} <= kept


def test_pyproject_promises_the_oldest_host_that_is_tested():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'requires-comfyui = ">=([0-9.]+)"', text)[1] == OLDEST_HOST
