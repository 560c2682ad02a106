"""The Python environments of `dev.py`: `.venv` with what the lock pins, and beside it one layer for
each older host, which holds only what that host asks for in another version."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .console import SetupError, call, say, step
from .hosts import DEFAULT_HOST
from .pack import PACK, ROOT

LOCK = ROOT / "tests" / "requirements.txt"
ALONE = ROOT / "tests" / "requirements-alone.txt"
SHARED = ROOT / ".venv"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
"""Pinned to the lock's: an older host's open ranges must not swap torch for another build."""
NEEDED_GB = 15
"""What is installed (7 GB), the downloads meanwhile, small checkpoints (4), tests' folders."""
STAMP = "attndb-setup.sha256"
TYPES = ROOT / ".cache" / "types"
"""Where pyright finds the pack under the name that tests import it by."""


def venv_folder(version: str) -> Path:
    """Environment for a host of this version: `.venv` for the default, else a layer on it."""
    return SHARED if version == DEFAULT_HOST else ROOT / f".venv-{version}"


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder: Path = SHARED, maker: Path = Path(sys.executable)) -> None:
    """Make an environment with the interpreter `maker`, unless it is there and works."""
    python = python_of(folder)
    if python.is_file() and subprocess.call([str(python), "-c", ""]) == 0:
        return
    with step(f"making {folder.name}"):
        if call([maker, "-m", "venv", "--clear", folder]) != 0:
            raise SetupError(
                "Python's venv module failed (Debian and Ubuntu: apt-get install python3-venv)"
            )


def install_lock() -> None:
    """Install what the lock pins into `.venv`, once."""
    if _stamped(SHARED, [LOCK, ALONE]):
        return
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < NEEDED_GB:
        say(f"{free:.1f} GB are free here, setup and tests may need {NEEDED_GB}: make room first")
    _install(SHARED, LOCK, note=" (several GB the first time: PyTorch)")
    _install(SHARED, ALONE, "--no-deps")
    _stamp(SHARED, [LOCK, ALONE])


def install_layer(version: str, host: Path) -> None:
    """Make the environment of an older host on top of `.venv`, once: whatever the host's own
    requirements take of the lock's versions is shared, and the rest is installed beside it."""
    folder, wanted = venv_folder(version), [LOCK, ALONE, host / "requirements.txt"]
    make_venv(folder, maker=python_of(SHARED))
    if _stamped(folder, wanted):
        return
    # sys.prefix keeps pip from touching what lies in the shared environment
    beneath, layer = (_site_packages(python_of(f)) for f in (SHARED, folder))
    Path(layer, "attndb-shared.pth").write_text(
        f"import site; site.addsitedir({beneath!r})\n", encoding="utf-8"
    )
    _install(folder, host / "requirements.txt", *TORCH)
    _stamp(folder, wanted)


def link_pack(folder: Path = TYPES) -> None:
    """Make the link that gives the root, which may be called anything, the package's name. Where no
    link can be made (Windows without developer mode), the types of what tests import are unknown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / PACK
    if link.is_symlink():
        return
    try:
        link.symlink_to(os.path.relpath(ROOT, folder), target_is_directory=True)
    except OSError as error:
        say(f"{link} could not be made ({error}): pyright will check the tests without the pack")


def _site_packages(python: Path) -> str:
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return subprocess.check_output([str(python), "-c", code], text=True).strip()


def _install(folder: Path, requirements: Path, *more: str, note: str = "") -> None:
    pip = [python_of(folder), "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--progress-bar", "off", "--quiet"]
    inside = requirements.is_relative_to(ROOT)
    shown = requirements.relative_to(ROOT) if inside else requirements
    with step(f"installing {shown} into {folder.name}{note}"):
        if call([*pip, "-r", requirements, *more]) != 0:
            raise SetupError(f"pip could not install {shown}: see its messages above")


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _stamped(folder: Path, files: Sequence[Path]) -> bool:
    """Whether these requirements are installed; forgotten if not, for an install may fail."""
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="ascii") == _digest(files):
        return True
    stamp.unlink(missing_ok=True)
    return False


def _stamp(folder: Path, files: Sequence[Path]) -> None:
    (folder / STAMP).write_text(_digest(files), encoding="ascii")
