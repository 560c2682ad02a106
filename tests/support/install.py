"""The pack put into a `custom_nodes` folder, as a user would."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from attndreambooth.devkit.pack import ROOT

PACK_FOLDER = "attndreambooth"
NOT_THE_PACK = ("tests", "benchmarks", "demo", "devkit", ".ci")


def pack_files() -> list[Path]:
    """The pack's files, relative to the root: what git tracks, or would; never what it ignores."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    paths = sorted({Path(name) for name in listed.split("\0") if name})
    return [p for p in paths if p.parts[0] not in NOT_THE_PACK and (ROOT / p).is_file()]


def install_pack(custom_nodes: Path) -> Path:
    """Copy the pack into a `custom_nodes` folder; return where it lies."""
    target = custom_nodes / PACK_FOLDER
    for path in pack_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target / path)
    return target
