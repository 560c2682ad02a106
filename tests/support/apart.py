"""Files that are read in a process of its own, so that its memory and time can be bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from attndreambooth.devkit.pack import ROOT

_HEAD = """
import json, os, sys, time
from pathlib import Path

def peak_kb():
    # A process that another starts takes over that one's ru_maxrss, so Linux is asked for its own.
    status = Path("/proc/self/status")
    if os.name == "nt":
        import psutil
        return psutil.Process().memory_info().peak_wset >> 10
    if not status.exists():
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.read_text().split("VmHWM:")[1].split()[0])

def tell(*what):
    sys.stdout.write(json.dumps(what) + chr(10))
    sys.stdout.flush()

sys.path.insert(0, sys.argv[1])
from pack import load_pack
load_pack()
FILES = sorted(Path(sys.argv[2]).iterdir())
"""


def read_apart(script: str, folder: Path) -> list[Any]:
    """What a script tells of the FILES of a folder, with `tell(...)` and `peak_kb()` at hand."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + script, str(ROOT / "devkit"), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])
    return lines
