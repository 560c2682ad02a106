"""The photos of a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..config.printable import printable
from .caption import read_caption
from .photo import DatasetError, Photo
from .photo_file import read_photo
from .scan import scan

log = logging.getLogger(__name__)

MOST_PIXELS = 1_000_000_000
"""Pixels of all photos of a folder together, which are held in memory: 80 phone photos."""
_NAMED = 5
"""Files that an error names; the log names the skipped ones, up to _LOGGED."""
_LOGGED = 50


def load_folder(
    folder: Path,
    *,
    captions: bool = False,
    skip_broken: bool = False,
    within: Sequence[Path] = (),
    check: Callable[[], None] = lambda: None,
) -> tuple[Photo, ...]:
    """The photos of a folder, sorted naturally. A broken file is an error that names it, or is
    skipped on request.

    captions: whether the text file of a photo's name is its caption; a broken one that is skipped
    leaves the photo to the template. within: other folders that links may lead to. `check` is
    called before every file, and may raise. DatasetError also if there are too many files, or
    pixels.
    """
    listing = scan(folder, within=within, check=check)
    photos: list[Photo] = []
    broken = list(listing.unusable)
    if not captions:
        broken += [
            f"{_named_in(folder, text)} is the caption of {_named_in(folder, image)}: set captions "
            "to 'text files' to use it"
            for image, text in listing.captions.items()
        ]
    pixels = 0
    for path in listing.images:
        check()
        try:
            photos.append(read_photo(path, path.relative_to(folder).as_posix()))
        except DatasetError as error:
            broken.append(str(error))
            continue
        if captions and path in listing.captions:
            text = listing.captions[path]
            try:
                caption = read_caption(text, text.relative_to(folder).as_posix())
                photos[-1] = replace(photos[-1], caption=caption)
            except DatasetError as error:
                broken.append(str(error))
        pixels += photos[-1].image.width * photos[-1].image.height
        if pixels > MOST_PIXELS:
            raise DatasetError(
                f"the photos of {printable(folder)} hold more than {MOST_PIXELS // 10**6} "
                "megapixels together, which do not fit into memory: 3 to 6 photos are usual; "
                "leave some out, or make them smaller"
            )
    if broken and not skip_broken:
        raise DatasetError(
            f"{_named(broken)}. Fix or remove it, or turn on 'skip_broken' to use the rest"
        )
    for message in broken[:_LOGGED]:
        log.warning("skipped: %s", message)
    if len(broken) > _LOGGED:
        log.warning("skipped: %d more", len(broken) - _LOGGED)
    if captions and not listing.captions:
        raise DatasetError(
            f"captions is 'text files', and {printable(folder)} holds none: write one for each "
            "photo, e.g. dog.txt for dog.jpg, or set captions to 'template'"
        )
    if not photos:
        raise DatasetError(f"no photo of {printable(folder)} could be read: {_named(broken)}")
    return tuple(photos)


def _named_in(folder: Path, path: Path) -> str:
    return printable(path.relative_to(folder).as_posix(), 200)


def _named(messages: Sequence[str]) -> str:
    more = len(messages) - _NAMED
    return "; ".join(messages[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
