"""Names that concepts may be saved under."""

from __future__ import annotations

import re

from ..config.printable import quoted

_NUMBERED = (f"{device}{number}" for device in ("COM", "LPT") for number in range(1, 10))
RESERVED_NAMES = {"CON", "PRN", "AUX", "NUL", *_NUMBERED}
"""File names that Windows does not take."""
_MOST_BYTES = 200
"""Of a folder or file: systems take 255, with the ending and what a partial file adds."""


def check_name(name: str) -> str:
    """A file name, possibly with sub-folders, that stays inside its folder. ValueError if not."""
    parts = name.replace("\\", "/").split("/")
    bad = (
        not name.strip()
        or len(name) > 200
        or any(
            part in ("", ".", "..")
            or part != part.strip(" .")
            or re.search(r'[<>:"|?*\x00-\x1f]', part)
            for part in parts
        )
    )
    if bad:
        raise ValueError(
            f"name {name!r} cannot be a file name: use letters, digits, '-', '_' and '/', without "
            "'..', e.g. my-sloth"
        )
    return "/".join(parts).removesuffix(".safetensors")


def check_new_name(name: str) -> str:
    """`check_name` for a name that is to be written: also usable as `embedding:name` in a prompt,
    where the host ends a name at spaces, brackets and commas, and legal on every system."""
    checked = check_name(name)
    reserved = [p for p in checked.split("/") if p.split(".")[0].upper() in RESERVED_NAMES]
    if reserved or not checked.isprintable() or re.search(r"[\s()\[\],]", checked):
        raise ValueError(
            f"name {name!r} cannot be a file name that works as embedding:name in a prompt: use "
            "letters, digits, '-', '_' and '/', e.g. my-sloth"
        )
    long = next((p for p in checked.split("/") if len(p.encode()) > _MOST_BYTES), None)
    if long is not None:
        raise ValueError(
            f"name {quoted(name)} is too long for a file: {quoted(long, 40)} takes "
            f"{len(long.encode())} bytes, and {_MOST_BYTES} are the most: choose a shorter one"
        )
    return checked
