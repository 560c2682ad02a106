"""The photos of a folder, with their captions and masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..config.choices import CaptionSource, MaskSource
from ..config.named import named
from ..config.printable import printable
from .caption import read_caption, read_plain_caption, say_plain_captions
from .mask import looks_like_mask, masked, read_mask
from .photo import DatasetError, Photo
from .photo_file import read_photo
from .plain_caption import SubjectWords
from .scan import Listing, scan

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_PIXELS = 1_000_000_000
"""Pixels of all photos of a folder together, which are held in memory: 80 phone photos."""
_LOGGED = 50
"""Skipped files that the log names."""


def load_folder(
    folder: Path,
    *,
    captions: CaptionSource = "template",
    words: SubjectWords | None = None,
    masks: MaskSource = "none",
    skip_broken: bool = False,
    within: Sequence[Path] = (),
    check: Callable[[], None] = lambda: None,
) -> tuple[Photo, ...]:
    """The photos of a folder, sorted naturally. A broken file is an error that names it, or is
    skipped on request: a photo goes without its broken caption or mask then.

    captions: whether the text file of a photo's name is its caption; `words`: what the subject is
    called in plain ones, which want it. masks: where masks come from.
    within: other folders that links may lead to. `check` is called before every file, and may
    raise. DatasetError also if there are too many files, or pixels.
    """
    listing = scan(folder, within=within, check=check)
    reading = _Reading(folder, listing, captions, masks, words)
    photos: list[Photo] = []
    pixels = 0
    for path in reading.listing.images:
        check()
        photo = reading.photo(path)
        if photo is None:
            continue
        photos.append(photo)
        pixels += photo.image.width * photo.image.height
        if pixels > MOST_PIXELS:
            raise DatasetError(
                f"the photos of {printable(folder)} hold more than {MOST_PIXELS // 10**6} "
                "megapixels together, which do not fit into memory: 3 to 6 photos are usual; "
                "leave some out, or make them smaller"
            )
    reading.check_found(photos)
    broken = reading.broken
    if broken and not skip_broken:
        raise DatasetError(
            f"{named(broken, sentences=True)}. Fix or remove it, or turn on 'skip_broken' to use "
            "the rest"
        )
    for message in broken[:_LOGGED]:
        log.warning("skipped: %s", message)
    if len(broken) > _LOGGED:
        log.warning("skipped: %d more", len(broken) - _LOGGED)
    if not photos:
        why = named(broken, sentences=True)
        raise DatasetError(f"no photo of {printable(folder)} could be read: {why}")
    _say_what_has_no_mask(photos)
    if captions == "plain text files":
        say_plain_captions(reading.plain)
    return tuple(photos)


class _Reading:
    """A folder's photos one by one, and what could not be used of it."""

    def __init__(
        self,
        folder: Path,
        listing: Listing,
        captions: CaptionSource,
        masks: MaskSource,
        words: SubjectWords | None,
    ) -> None:
        self.listing, self._words = listing, words
        self.plain: dict[str, tuple[str, bool]] = {}
        """Plain captions by the names of their files, and whether the subject is in each."""
        self.broken = list(listing.unusable)
        self._folder = folder
        self._captions: CaptionSource = captions
        self._masks: MaskSource = masks
        if captions == "template":
            self.broken += [
                f"{self._name(text)} is the caption of {self._name(image)}: set captions to 'text "
                "files' to use it ('plain text files' if it is another trainer's)"
                for image, text in listing.captions.items()
            ]
        if masks != "files":
            self.broken += [
                f"{self._name(mask)} is the mask of {self._name(image)}: set masks to 'files' to "
                "use it, or give it another name if it is a photo"
                for image, mask in listing.masks.items()
            ]

    def photo(self, path: Path) -> Photo | None:
        """A photo with what is wanted of it; None if it is broken."""
        alpha = self._masks == "alpha"
        photo = self._tried(lambda: read_photo(path, self._relative(path), alpha))
        if photo is None or self._is_mask_of_none(path, photo):
            return None
        text = None if self._captions == "template" else self.listing.captions.get(path)
        if text is not None:
            caption = self._tried(lambda: self._caption(text, self._relative(text)))
            photo = replace(photo, caption=caption)
        mask = self.listing.masks.get(path) if self._masks == "files" else None
        if mask is not None:
            name, plain = self._relative(mask), photo
            photo = self._tried(lambda: masked(plain, read_mask(mask, name), name)) or plain
        if alpha and photo.mask is not None:
            own, whole = photo.mask, replace(photo, mask=None)
            name = f"the alpha channel of {photo.name}"
            photo = self._tried(lambda: masked(whole, own, name)) or whole
        return photo

    def _caption(self, text: Path, name: str) -> str:
        if self._captions == "text files":
            return read_caption(text, name)
        assert self._words is not None, "plain captions are read with the subject's words"
        self.plain[name] = read_plain_caption(text, name, self._words)
        return self.plain[name][0]

    def _is_mask_of_none(self, path: Path, photo: Photo) -> bool:
        """Whether an image is a mask that no photo has, and no photo; it is told of then."""
        if path not in self.listing.named_masks:
            return False
        if self._masks != "files" and not looks_like_mask(photo.image):
            return False
        self.broken.append(
            f"{self._name(path)} is named as a mask, and no photo has its name: give it its "
            "photo's, or another one if it is a photo"
        )
        return True

    def check_found(self, photos: Sequence[Photo]) -> None:
        """DatasetError if nothing of what is wanted beside the photos is there."""
        check_beside(self._folder, self.listing, captions=self._captions, masks=self._masks)
        shown = printable(self._folder)
        if self._masks == "alpha" and photos and all(photo.mask is None for photo in photos):
            raise DatasetError(
                f"masks is 'alpha', and no photo of {shown} has a transparent part: cut the "
                "subjects out, or set masks to 'none'"
            )

    def _tried(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except DatasetError as error:
            self.broken.append(str(error))
            return None

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _name(self, path: Path) -> str:
        return printable(self._relative(path), 200)


def check_beside(
    folder: Path, listing: Listing, *, captions: CaptionSource, masks: MaskSource
) -> None:
    """DatasetError if no file of a kind that is wanted beside the photos is there."""
    shown = printable(folder)
    if captions != "template" and not listing.captions:
        raise DatasetError(
            f"captions is {captions!r}, and {shown} holds none: write one for each photo, e.g. "
            "dog.txt for dog.jpg, or set captions to 'template'"
        )
    if masks == "files" and not listing.masks:
        raise DatasetError(
            f"masks is 'files', and {shown} holds none: put dog_mask.png beside dog.jpg, or "
            "dog.png into a folder masks beside it; or set masks to 'none'"
        )


def _say_what_has_no_mask(photos: Sequence[Photo]) -> None:
    bare = [printable(photo.name, 200) for photo in photos if photo.mask is None]
    if 0 < len(bare) < len(photos):
        log.warning("no mask for %s: all of it counts in the loss", named(bare))
