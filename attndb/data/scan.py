"""scan: which files of a folder are photos, within bounds; nothing is opened."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..config.named import named
from ..config.printable import printable
from .photo import DatasetError
from .picture_formats import image_suffixes, unread_suffixes

MOST_FILES = 500
"""Files and sub-folders of a folder of photos; 3 to 6 photos are usual."""
MASK_ENDINGS = ("_mask", "-masklabel")
"""The second is how OneTrainer names them."""
MASK_FOLDERS = frozenset({"masks", "mask"})
_COUNTED = 10_000
"""Where counting ends: a message in time is worth more than the exact number."""
_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})
_CLUTTER_FOLDERS = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin"})
"""Thumbnails of a Synology, what macOS packs beside files, and bins: pictures that nobody put
there."""
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_MOUNT_POINT = 0xA0000003
"""IO_REPARSE_TAG_MOUNT_POINT of Windows."""


@dataclass(frozen=True)
class Listing:
    """What lies in a folder."""

    images: tuple[Path, ...]
    """Regular files with an image's name, sorted naturally by their path inside the folder; masks
    are not among them."""
    unusable: tuple[str, ...]
    """What else there is, each as `<name> is not an image`: told, never opened. Photos of a format
    that nothing here reads come first, those of one format together, with the remedy."""
    captions: Mapping[Path, Path]
    """The text file of a photo's own name beside it, by photo."""
    masks: Mapping[Path, Path]
    """The mask of a photo, by photo: `dog_mask.png` beside dog.jpg, or dog.png in a folder `masks`
    next to it."""
    named_masks: frozenset[Path]
    """Of the images those with a mask's name that are no photo's mask, and have none themselves:
    photos that are called so, or masks whose photos are gone."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        return (*self.images, *self.captions.values(), *self.masks.values())


def natural_key(path: str) -> tuple[list[list[tuple[int, int, str]]], str]:
    """Sorts `2.png` before `10.png`, upper and lower case together, folder by folder."""
    parts = [
        [
            (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold())
            for piece in re.split(r"(\d+)", part)
            if piece
        ]
        for part in path.split("/")
    ]
    return parts, path


def scan(
    folder: Path,
    *,
    within: Sequence[Path] = (),
    check: Callable[[], None] = lambda: None,
) -> Listing:
    """The images of a folder and its sub-folders. Hidden files and folders, and those that
    systems keep thumbnails and deleted files in, are passed over.

    A link is followed if it stays below the folder or one of `within`. `check` is called every
    now and then, and may raise. DatasetError if the folder is missing, holds no image, or holds
    more than MOST_FILES files and folders.
    """
    shown = printable(folder)
    try:
        mode = folder.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"folder {shown} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"folder {shown} cannot be opened: {_reason(error)}") from error
    if not stat.S_ISDIR(mode):
        raise DatasetError(f"{shown} is a file: give the folder that holds the photos")
    walk = _Walk(folder, [Path(os.path.realpath(root)) for root in (folder, *within)], check)
    walk.run()
    if not walk.images and walk.unread:
        raise DatasetError(f"folder {shown}: {'; '.join(walk.unread_lines())}")
    if not walk.images:
        kinds = ", ".join(sorted(image_suffixes()))
        raise DatasetError(f"folder {shown} holds no image ({kinds}): put the photos there")
    masks = walk.take_masks()
    images = sorted(walk.images, key=lambda path: natural_key(walk.name(path)))
    captions = walk.captions()
    unusable = (*walk.unread_lines(), *sorted(walk.unusable, key=natural_key))
    named = frozenset(
        image for image in images if image not in masks and _masked_stems(image.relative_to(folder))
    )
    return Listing(tuple(images), unusable, captions, masks, named)


def is_link(path: Path) -> bool:
    """Whether a path is a link, or a junction of Windows, which is no symbolic link to Python."""
    status = path.lstat()
    junction = getattr(status, "st_reparse_tag", 0) == _MOUNT_POINT
    return stat.S_ISLNK(status.st_mode) or junction


@dataclass
class _Walk:
    """One pass over a folder."""

    folder: Path
    allowed: list[Path]
    check: Callable[[], None]
    images: list[Path] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    unread: dict[Path, str] = field(default_factory=dict)
    """Photos of a format that nothing here reads, with the remedy."""
    texts: dict[Path, Path] = field(default_factory=dict)
    """Text files by their path without the ending."""
    _seen: set[tuple[int, int]] = field(default_factory=set)
    _entries: int = 0

    def run(self) -> None:
        found: list[tuple[Path, bool]] = []
        folders = [self.folder]
        while folders:
            folder = folders.pop()
            if self._is_new(folder):
                entries = self._list(folder)
                found += entries
                folders += [path for path, is_folder in entries if is_folder]
        if self._entries > MOST_FILES:
            more = "more than " if self._entries > _COUNTED else ""
            raise DatasetError(
                f"folder {printable(self.folder)} holds {more}{min(self._entries, _COUNTED):,} "
                f"files, and at most {MOST_FILES} are read: choose a folder that holds the "
                "subject's photos alone (3 to 6 are usual)"
            )
        suffixes, unread = image_suffixes(), unread_suffixes()
        for path, is_folder in found:
            if not is_folder:
                self._sort_in(path, suffixes, unread)

    def take_masks(self) -> dict[Path, Path]:
        """The images that are masks of others by their names, by what they are of; they are no
        photos any more."""
        photos = _Named(self.images)
        masks: dict[Path, Path] = {}
        for find in (photos.of, photos.like):
            for image in sorted(set(self.images) - set(masks.values())):
                for stem in _masked_stems(image.relative_to(self.folder)):
                    for photo in find(self.folder / stem):
                        masks.setdefault(photo, image)
        of_masks = set(masks.values())
        self.images = [image for image in self.images if image not in of_masks]
        return {photo: mask for photo, mask in masks.items() if photo not in of_masks}

    def captions(self) -> dict[Path, Path]:
        """The texts by the photo whose name they have; the others are unusable."""
        photos = _Named(self.images)
        found: dict[Path, Path] = {}
        for find in (photos.of, photos.like):
            for stem, text in sorted(self.texts.items()):
                if text not in found.values():
                    found |= {image: text for image in find(stem) if image not in found}
        unread = _Named(list(self.unread))
        for stem, text in self.texts.items():
            if text not in found.values() and not (unread.of(stem) or unread.like(stem)):
                self._say(text, "is not an image, nor the caption of one: none has its name")
        return {image: found[image] for image in self.images if image in found}

    def unread_lines(self) -> list[str]:
        """A line for each format that nothing here reads."""
        lines = []
        for why in dict.fromkeys(self.unread.values()):
            names = sorted(
                (self.name(p) for p in self.unread if self.unread[p] == why), key=natural_key
            )
            shown = named([printable(name, 200) for name in names])
            lines.append(f"{shown} {'is' if len(names) == 1 else 'are'} {why}")
        return lines

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _list(self, folder: Path) -> list[tuple[Path, bool]]:
        """Visible entries of a folder, and whether each is a folder to go into."""
        found: list[tuple[Path, bool]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if self._entries % 256 == 0:
                        self.check()
                    self._entries += 1
                    if self._entries > _COUNTED:
                        break
                    if entry.name.startswith(".") or entry.name.lower() in _CLUTTER_FOLDERS:
                        continue
                    if self._entries <= MOST_FILES:
                        path = folder / entry.name
                        found.append((path, self._is_folder(entry, path)))
                    elif entry.is_dir(follow_symlinks=False):
                        found.append((folder / entry.name, True))  # refused anyway: only counted
        except OSError as error:
            if folder == self.folder:
                raise DatasetError(
                    f"folder {printable(folder)} cannot be opened: {_reason(error)}"
                ) from error
            self._say(folder, f"cannot be opened: {_reason(error)}")
        return found

    def _is_folder(self, entry: os.DirEntry[str], path: Path) -> bool:
        try:
            return entry.is_dir() and self._stays(is_link(path), path)
        except OSError:
            return False  # told of with the files

    def _stays(self, is_link: bool, path: Path) -> bool:
        """Whether a link leads to where photos may be read."""
        if not is_link:
            return True
        target = Path(os.path.realpath(path))
        return any(target.is_relative_to(root) for root in self.allowed)

    def _is_new(self, folder: Path) -> bool:
        """Whether a folder was not read before: links may lead in circles."""
        if self._entries > _COUNTED:
            return False
        try:
            found = folder.stat()
        except OSError:
            return True  # opening it says why not
        place = (found.st_dev, found.st_ino)
        if place in self._seen:
            self._say(folder, "is a link to a folder that is read already")
            return False
        self._seen.add(place)
        return True

    def _sort_in(self, path: Path, suffixes: frozenset[str], unread: Mapping[str, str]) -> None:
        """Puts a file among the images, the texts or the unusable."""
        try:
            if not self._stays(is_link(path), path):
                self._say(path, "is a link that leaves the folder, and is not followed")
                return
            mode = path.stat().st_mode
        except (FileNotFoundError, RuntimeError):
            self._say(path, "is a link that leads nowhere")
            return
        except OSError as error:
            self._say(path, f"cannot be opened: {_reason(error)}")
            return
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
            self._say(path, f"is {kind}, not an image")
        elif path.suffix.lower() in suffixes:
            self.images.append(path)
        elif path.suffix.lower() in unread:
            self.unread[path] = unread[path.suffix.lower()]
        elif path.suffix.lower() == ".txt":
            first = self.texts.setdefault(path.with_suffix(""), path)
            if first != path:  # dog.txt and dog.TXT: one of them, the same one always
                self.texts[path.with_suffix("")] = min(first, path)
                twin = self.name(min(first, path))
                self._say(max(first, path), f"is a second caption beside {printable(twin, 200)}")
        elif path.suffix.lower() == ".caption":
            self._say(path, f"is a caption as kohya names them: rename it {path.stem}.txt")
        elif path.name.lower() not in _CLUTTER:
            self._say(path, "is not an image")

    def _say(self, path: Path, what: str) -> None:
        self.unusable.append(f"{printable(self.name(path), 200)} {what}")


class _Named:
    """Photos by their path without the ending."""

    def __init__(self, photos: Sequence[Path]) -> None:
        self._photos: dict[Path, list[Path]] = {}
        for photo in photos:
            self._photos.setdefault(photo.with_suffix(""), []).append(photo)
        self._alike: dict[str, list[Path]] = {}
        for stem in self._photos:
            self._alike.setdefault(_folded(stem), []).append(stem)

    def of(self, stem: Path) -> list[Path]:
        """Those of this very name."""
        return self._photos.get(stem, [])

    def like(self, stem: Path) -> list[Path]:
        """Those of a name that other systems and disks take for this one, if it is but one: in
        capitals, or with an accent that is a character of its own (macOS)."""
        names = self._alike.get(_folded(stem), [])
        return self._photos[names[0]] if len(names) == 1 else []


def _folded(path: Path) -> str:
    whole = unicodedata.normalize("NFD", path.as_posix())
    return unicodedata.normalize("NFD", whole.casefold())


def _masked_stems(name: Path) -> list[Path]:
    """Paths, without an ending, of the photos that a mask of this name may be of."""
    stems = []
    ending = next((end for end in MASK_ENDINGS if name.stem.lower().endswith(end)), "")
    plain = name.stem[: -len(ending)] if ending else ""
    if plain:
        stems.append(name.parent / plain)
    for place, part in enumerate(name.parts[:-1]):
        if part.lower() in MASK_FOLDERS:
            folder = Path(*name.parts[:place], *name.parts[place + 1 : -1])
            stems += [folder / stem for stem in (name.stem, plain) if stem]
    return stems


def _reason(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or error, 200)
