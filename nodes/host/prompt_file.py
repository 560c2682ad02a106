"""Text files of prompts, below the folders that photos may lie in."""

from __future__ import annotations

from pathlib import Path

from ...attndb.config.printable import quoted
from .file_state import files_state
from .photo_folders import photo_roots
from .typed_path import can_be_path, is_file, lies_below, place_of, unquoted

_LARGEST = 1 << 20


def read_prompt_file(text: str) -> str:
    """What the file says. ValueError if it is none, too large, or lies elsewhere."""
    path = _resolved(text)
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"file {quoted(text, 200)} is larger than 1 MB: prompts are one in a line")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"file {quoted(text, 200)} is no text in UTF-8: save it as such"
        ) from error


def prompt_file_state(text: object) -> str:
    """Changes when the file does."""
    return files_state(lambda: [_resolved(str(text))])


def _resolved(text: str) -> Path:
    cleaned = unquoted(text)
    if not cleaned:
        raise ValueError("file is empty: type the name of a .txt file in ComfyUI's input folder")
    if not can_be_path(cleaned):
        raise ValueError(
            f"file = {quoted(text)} is no path: type the name of a .txt file in ComfyUI's input "
            "folder"
        )
    if not cleaned.lower().endswith(".txt"):
        raise ValueError(f"file {quoted(text, 200)} is no .txt file: prompts are one in a line")
    file = place_of(cleaned, photo_roots(), is_file)
    if not lies_below(file, photo_roots()):
        raise ValueError(
            f"file {quoted(text, 200)} lies outside of ComfyUI's input/ and datasets/ folders: put "
            "it there"
        )
    if not is_file(file):
        raise ValueError(
            f"there is no file {quoted(file, 200)}: put it into ComfyUI's input folder"
        )
    return file
