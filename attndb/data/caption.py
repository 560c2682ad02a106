"""Captions: the text beside a photo that says what is on it and is not the subject."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..config.printable import printable, quoted
from .dataset import check_template
from .photo import DatasetError, Photo
from .photo_file import open_regular
from .plain_caption import SubjectWords

log = logging.getLogger(__name__)

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
    _check(
        caption, _named(name), "; captions of other trainers: set captions to 'plain text files'"
    )
    return caption


def read_plain_caption(path: Path, name: str, words: SubjectWords) -> tuple[str, bool]:
    """The caption that another trainer's text file says, and whether the subject is named in it; a
    file of several lines says several, of which the first is taken. One with `{}` is read as
    `read_caption` reads it. DatasetError as there, but for a missing `{}`."""
    return _plain_caption(read_text(path, name), name, words, path.parent.name)


def _plain_caption(text: str, name: str, words: SubjectWords, folder: str = "") -> tuple[str, bool]:
    if "{}" in text:
        caption, found = " ".join(text.split()), True
    else:
        first = next(line for line in text.splitlines() if line.strip())
        caption, found = words.template_of(" ".join(first.split()), folder)
    _check(caption, _named(name))
    return caption, found


def _named(name: str) -> str:
    return f"{printable(name, 200)}: the caption"


def _check(caption: str, named: str, more: str = "") -> None:
    try:
        check_template(caption, named)
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


def captioned(
    photos: Sequence[Photo], captions: Sequence[str], words: SubjectWords | None = None
) -> tuple[Photo, ...]:
    """Photos with captions, one for each; an empty one leaves its photo to the template, and so do
    no captions at all. `words`: of plain captions, which are read as those in text files are.
    DatasetError for another count, and without `words` for a caption without `{}`."""
    lines = [line.strip() for line in captions]
    if not any(lines):
        return tuple(photos)
    while len(lines) > len(photos) and not lines[-1]:
        lines.pop()
    if len(lines) != len(photos):
        raise DatasetError(
            f"captions has {len(lines)} lines, and there are {len(photos)} photos: write one line "
            "for each photo; an empty line leaves its photo to the template"
        )
    given = {photo.name: line for photo, line in zip(photos, lines, strict=True) if line}
    if words is None:
        read = {name: _typed(line, name) for name, line in given.items()}
    else:
        plain = {name: _plain_caption(line, name, words) for name, line in given.items()}
        say_plain_captions(plain)
        read = {name: caption for name, (caption, _) in plain.items()}
    return tuple(replace(photo, caption=read.get(photo.name)) for photo in photos)


def _typed(line: str, name: str) -> str:
    caption = " ".join(line.split())
    more = "; those of a captioning node: set captions_are to 'plain text'"
    _check(caption, f"caption of {printable(name, 200)}:", more)
    return caption


def say_plain_captions(captions: Mapping[str, tuple[str, bool]]) -> None:
    """Logs what became of plain captions, with one of each kind. `captions`: by the names of their
    files or photos, and whether the subject was found in each."""
    if not captions:
        return
    found = [name for name, (_, named_in) in captions.items() if named_in]
    missed = [name for name in captions if name not in found]
    told = []
    for what, names in (("{} for the subject's words in", found), ("{} put in front of", missed)):
        if names:
            one = f"{printable(names[0], 200)}: {quoted(captions[names[0]][0], 200)}"
            told.append(f"{what} {len(names)}, e.g. {one}")
    log.info("%d plain captions: %s", len(captions), "; ".join(told))
    if not found:
        log.warning(
            "no plain caption has the subject's words: type what it is called there into trigger"
        )
