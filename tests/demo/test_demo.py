"""`dev.py demo` from its command line: README's first command draws its sheet."""

from __future__ import annotations

import subprocess
import sys

from PIL import Image

from attndreambooth.devkit.pack import ROOT


def test_it_trains_draws_and_saves(tmp_path):
    command = [sys.executable, str(ROOT / "demo" / "demo.py"), "--steps", "1"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Image.open(tmp_path / "contact_sheet.png").width > 6 * 160
    assert Image.open(tmp_path / "losses.png").width > 100
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == 4 * 6  # before, and after each of three stages
    assert {Image.open(path).size for path in pictures} == {(128, 128)}
    assert len(list((tmp_path / "models").rglob("*.safetensors"))) == 2
