"""What other programs left in models/diffusers: U-Nets in diffusers' layout, learned embeddings.

Only what lies below the host's folders of that kind is read. Others are read if the server's owner
names them in extra_model_paths.yaml (`diffusers: /path/to/folders`); links that leave are refused.
"""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...attndb.artifacts.concept import ConceptFileError
from ...attndb.artifacts.diffusers_unet import (
    SUBFOLDER,
    UNET_CLASS,
    WEIGHT_FILES,
    component_class,
    weight_file,
)
from ...attndb.artifacts.tensor_file import SAFETENSORS
from ...attndb.config.printable import quoted
from ...attndb.data.scan import natural_key
from .paths import model_files
from .typed_path import can_be_path, is_file, is_folder, lies_below

KIND = "diffusers"
SINGLE_FILES = "diffusion_models"
_READ = (*SAFETENSORS, ".bin", ".pt", ".pth")
_DEEPEST = 6
_MOST_ENTRIES = 5_000


def unet_choices() -> list[str]:
    """Folders below models/diffusers that hold a U-Net, then files in models/diffusion_models;
    sorted."""
    found = (path for path in _found() if path.name in WEIGHT_FILES)
    folders = {_without_subfolder(path) for path in found if _may_be_unet(path)}
    files = [f for f in model_files(SINGLE_FILES) if f.lower().endswith(_READ)]
    return [*sorted(folders, key=natural_key), *(f"{SINGLE_FILES}/{file}" for file in files)]


def embedding_choices() -> list[str]:
    """Embeddings of diffusers and of the published code below models/diffusers, sorted."""
    names = {p.as_posix() for p in _found() if p.name.startswith("learned_embeds")}
    return sorted(
        (f"{KIND}/{name}" for name in names if name.lower().endswith(_READ)), key=natural_key
    )


def embedding_below(name: str) -> Path:
    """The file of one of `embedding_choices`."""
    return _below(name.removeprefix(f"{KIND}/"), "embedding")


def unet_file(name: str) -> Path:
    """The weights of one of `unet_choices`. ValueError if there are none, or if they lie elsewhere;
    FileNotFoundError if there is nothing of this name."""
    if name.startswith(f"{SINGLE_FILES}/"):
        found = folder_paths.get_full_path(SINGLE_FILES, name.removeprefix(f"{SINGLE_FILES}/"))
        if found is not None:
            return Path(found)
    folder = _below(name, "unet")
    if not folder.is_dir():
        raise ConceptFileError(
            f"unet = {quoted(name)} is no folder: choose one that holds {SUBFOLDER}/"
            f"{WEIGHT_FILES[0]}"
        )
    path = weight_file(folder)
    _check_inside(path, f"{name}/{path.name}", "unet")
    return path


def _below(name: str, widget: str) -> Path:
    """A path below one of the host's folders of diffusers models."""
    if not can_be_path(name):
        raise ValueError(f"{widget} = {quoted(name)} is no path: choose one from the list")
    for root in _roots():
        path = root / name
        if is_file(path) or is_folder(path):
            _check_inside(path, name, widget)
            return path
    raise FileNotFoundError(
        f"{widget} = {quoted(name)} is not in models/{KIND}: put the folder there and refresh (R)"
    )


def _check_inside(path: Path, name: str, widget: str) -> None:
    if not lies_below(path, _roots()):
        raise ValueError(
            f"{widget} = {quoted(name, 200)} leads out of models/{KIND}: put the files themselves "
            "there. Other folders are read only if the server's owner names them in "
            f"extra_model_paths.yaml, with a line '{KIND}: /path/to/folders'"
        )


def _roots() -> list[Path]:
    known = folder_paths.folder_names_and_paths
    return [Path(root) for root in (known[KIND][0] if KIND in known else ())]


def _may_be_unet(path: Path) -> bool:
    """Not if the config beside the weights says what else they are: an autoencoder's and a
    ControlNet's are called the same."""
    for root in _roots():
        if (root / path).exists():
            told = component_class(root / path.parent)
            return told is None or told == UNET_CLASS
    return True


def _without_subfolder(path: Path) -> str:
    """The folder as people call it: the one that holds `unet/`."""
    folder = path.parent
    if folder.name == SUBFOLDER and folder.parent.name:
        folder = folder.parent
    return folder.as_posix()


def _found() -> list[Path]:
    """Files below the roots that could be chosen, relative to their root; links to folders are not
    followed, and the search ends after some thousand entries."""
    found, budget = [], [_MOST_ENTRIES]
    for root in _roots():
        _look(root, root, 0, budget, found)
    # a name that is not UTF-8 cannot be sent to the page
    return [path for path in found if str(path).isprintable()]


def _look(folder: Path, root: Path, depth: int, budget: list[int], found: list[Path]) -> None:
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                budget[0] -= 1
                if budget[0] < 0 or entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth < _DEEPEST:
                        _look(Path(entry.path), root, depth + 1, budget, found)
                elif entry.name in WEIGHT_FILES or entry.name.startswith("learned_embeds"):
                    found.append(Path(entry.path).relative_to(root))
    except OSError:
        pass  # not there, or not ours: nothing to choose
