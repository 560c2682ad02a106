"""A front end newer than the tested hosts ask for, and how it is put on disk (docs/host.md).

ComfyUI's page is a package of its own that is published more often than ComfyUI: a user who updates
has a newer one. Standard library only, as all that `dev.py` needs before anything is installed.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from .console import step
from .hosts import HOSTS_FOLDER, check_sha256, download, whole_folder

FRONT_END = "ATTNDB_FRONT_END"
"""Environment variable: the folder that the tests' servers serve as their page."""
PACKAGE = "comfyui-frontend-package"
FRONT_ENDS = {
    "1.58.1": "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9",
}
"""The newest when it was last looked for, and the sha256 of its wheel."""
NEWEST_FRONT_END = next(iter(FRONT_ENDS))
_INSIDE = "comfyui_frontend_package/static"


def front_end_folder(version: str) -> Path:
    """Where the page of this version lies once it is fetched."""
    return HOSTS_FOLDER / f"front-end-{version}"


def front_end_of(host: Path) -> str:
    """The version that a ComfyUI tree asks for."""
    text = (host / "requirements.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{PACKAGE}==(\S+)", text, re.MULTILINE)
    return found[1] if found else "unknown"


def fetch_front_end(version: str, python: Path) -> Path:
    """The page of this version, fetched once; whole or not at all."""
    folder = front_end_folder(version)
    if (folder / "index.html").is_file():
        return folder
    with step(f"fetching front end {version}"), whole_folder(folder) as (downloads, tree):
        how = ("--only-binary", ":all:")
        wheel = download(f"{PACKAGE}=={version}", downloads, python, *how)
        unpack_page(wheel, FRONT_ENDS[version], tree)
    return folder


def unpack_page(wheel: Path, sha256: str, target: Path) -> None:
    """Writes the page in a wheel below `target`. SetupError if it is another wheel than we know."""
    check_sha256(wheel, sha256)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or not path.is_relative_to(_INSIDE):
                continue
            output = target.joinpath(*path.relative_to(_INSIDE).parts)
            output.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, output.open("wb") as sink:
                shutil.copyfileobj(source, sink)
