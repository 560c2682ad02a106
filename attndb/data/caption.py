"""Captions: the text beside a photo that says what is on it and is not the subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..config.printable import printable
from .dataset import check_template
from .photo import DatasetError, Photo
from .photo_file import open_regular
from .plain_caption import SubjectWords

_MOST_BYTES = 64 << 10
_BOMS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}


def read_caption(path: Path, name: str) -> str:
    """The caption in a text file, on one line; `{}` stands for the subject in it.

    DatasetError names a file that is empty, no text, or without `{}`, and says what to write.
    """
    caption = " ".join(read_text(path, name).split())
    _check(caption, name, "; captions of other trainers: set captions to 'plain text files'")
    return caption


def read_plain_caption(path: Path, name: str, words: SubjectWords) -> tuple[str, bool]:
    """The caption that another trainer's text file says, and whether the subject is named in it; a
    file of several lines says several, of which the first is taken. One with `{}` is read as
    `read_caption` reads it. DatasetError as there, but for a missing `{}`."""
    text = read_text(path, name)
    if "{}" in text:
        return read_caption(path, name), True
    first = next(line for line in text.splitlines() if line.strip())
    caption, found = words.template_of(" ".join(first.split()), path.parent.name)
    _check(caption, name)
    return caption, found


def _check(caption: str, name: str, more: str = "") -> None:
    try:
        check_template(caption, f"{printable(name, 200)}: the caption")
    except DatasetError as error:
        raise DatasetError(f"{error}{'' if '{}' in caption else more}") from error


def read_text(path: Path, name: str) -> str:
    """What a text file holds. DatasetError names one that is empty or no text."""
    shown = printable(name, 200)
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DatasetError(f"has more than {_MOST_BYTES >> 10} kB: a caption is one sentence")
        text = decoded(content)
        if not text.strip():
            raise DatasetError("is empty: write what is on the photo, e.g. 'a {} on a sofa'")
    except DatasetError as error:
        raise DatasetError(f"{shown} {error}") from error
    except OSError as error:
        reason = printable(error.strerror or error, 200)
        raise DatasetError(f"{shown} cannot be read: {reason}") from error
    return text


def decoded(content: bytes) -> str:
    """The text of a file: UTF-8 or UTF-16 by its mark, or as it must be, else Latin-1 as Windows
    writes it. DatasetError if it is no text in any of them."""
    for mark, encoding in _BOMS.items():
        if content.startswith(mark):
            return _in(encoding, content.removeprefix(mark))
    if b"\0" in content:  # Latin letters in UTF-16 have a zero in every second byte
        big = content[::2].count(0) > content[1::2].count(0)
        return _in("utf-16-be" if big else "utf-16-le", content)
    for encoding in ("utf-8", "cp1252", "latin-1"):
        try:
            return _checked(content.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise AssertionError("Latin-1 has a letter for every byte")


def _in(encoding: str, content: bytes) -> str:
    try:
        return _checked(content.decode(encoding))
    except UnicodeDecodeError as error:
        raise DatasetError(f"is no text in {encoding.upper()}: save it as UTF-8") from error


def _checked(text: str) -> str:
    odd = next((c for c in text if not (c.isprintable() or c.isspace())), None)
    if odd is not None:
        raise DatasetError(f"is no text (it holds {printable(odd)}): save it as UTF-8")
    return text


def captioned(photos: Sequence[Photo], captions: Sequence[str]) -> tuple[Photo, ...]:
    """Photos with captions, one for each; an empty one leaves its photo to the template, and so do
    no captions at all. DatasetError for another count."""
    lines = [" ".join(line.split()) for line in captions]
    if not any(lines):
        return tuple(photos)
    while len(lines) > len(photos) and not lines[-1]:
        lines.pop()
    if len(lines) != len(photos):
        raise DatasetError(
            f"captions has {len(lines)} lines, and there are {len(photos)} photos: write one line "
            "for each photo; an empty line leaves its photo to the template"
        )
    return tuple(
        replace(photo, caption=line or None) for photo, line in zip(photos, lines, strict=True)
    )
