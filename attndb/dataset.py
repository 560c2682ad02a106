"""ConceptDataset: the photos of one subject, upright, with the words that go with them."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .photo import DatasetError, Photo
from .prior import DEFAULT_PRIOR_PROMPT, PriorImages

log = logging.getLogger(__name__)

_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
DEFAULT_TEMPLATE = "a photo of a {}"
DEFAULT_PLACEHOLDER = "<my-subject>"


@dataclass(frozen=True)
class ConceptDataset:
    """Photos of one subject with its placeholder, super-category and prompt template."""

    photos: tuple[Photo, ...]
    """3 to 6 photos are usual; one works."""
    category: str
    """The super-category: the plain word for what the subject is, e.g. `dog`."""
    placeholder: str = DEFAULT_PLACEHOLDER
    """The new word that stands for the subject in prompts, e.g. `<my-sloth>`."""
    template: str = DEFAULT_TEMPLATE
    """Training prompt; `{}` becomes `<placeholder> category`."""
    prior: PriorImages | None = None
    """Pictures of the category for prior preservation in stages 2 and 3; None: as published."""

    def __post_init__(self) -> None:
        if not self.photos:
            raise DatasetError("the dataset holds no photo: give 3 to 6 photos of the subject")
        check_category(self.category)
        check_placeholder(self.placeholder, self.category)
        check_template(self.template)
        if self.prior is not None:
            self.prior.check_fits(self.category, self.placeholder, self.photos)

    def with_prior(
        self, images: tuple[Photo, ...], prompt: str = DEFAULT_PRIOR_PROMPT, weight: float = 1.0
    ) -> ConceptDataset:
        """The dataset with prior images; in their prompt `{}` becomes the category. DatasetError
        if they cannot be used, or if there are some already."""
        if self.prior is not None:
            raise DatasetError(
                f"the dataset has {len(self.prior.images)} prior images already: make one batch of "
                "all images with Batch Images, and use this node once"
            )
        prompt = prompt.replace("{}", self.category)
        prior = PriorImages(images=images, prompt=prompt, weight=weight)
        return dataclasses.replace(self, prior=prior)

    def without_prior(self) -> ConceptDataset:
        """The same photos and words without prior images."""
        return dataclasses.replace(self, prior=None)

    @property
    def prompt(self) -> str:
        """The training prompt, e.g. `a photo of a <my-sloth> sloth`."""
        return self.template.replace("{}", f"{self.placeholder} {self.category}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of photos and words, and of the prior images if there are any."""
        content = hashlib.sha256()
        for photo in self.photos:
            content.update(photo.digest.encode())
        content.update("\0".join((self.category, self.placeholder, self.template)).encode())
        if self.prior is not None:
            content.update(f"\0prior {self.prior.digest}".encode())
        return content.hexdigest()


def check_category(category: str) -> None:
    """DatasetError if the super-category is empty or holds prompt syntax."""
    if not category.strip():
        raise DatasetError(
            "category is empty: type the plain word for what the subject is, e.g. dog, backpack"
        )
    if category != category.strip() or re.search(r"[()<>{}\[\]:]", category):
        raise DatasetError(
            f"category {category!r}: use plain words without brackets, colons or spaces around"
        )


def check_placeholder(placeholder: str, category: str) -> None:
    """DatasetError if the placeholder could not be found again in a prompt."""
    if not placeholder.strip():
        raise DatasetError("placeholder is empty: type a new word, e.g. <my-dog>")
    if re.search(r"[\s(){}:,\\]", placeholder):
        raise DatasetError(
            f"placeholder {placeholder!r}: leave out spaces, commas, colons, backslashes and "
            "round or curly brackets; a form like <my-dog> is safe"
        )
    if placeholder.lower() in category.lower().split():
        raise DatasetError(
            f"placeholder {placeholder!r} is the category itself: choose a new word, e.g. "
            f"<my-{placeholder.strip('<>').lower()}>"
        )
    if placeholder.isalpha():
        raise DatasetError(
            f"placeholder {placeholder!r} is already a word, or could be one to the model: write a "
            f"new one, e.g. <my-{placeholder.lower()}>"
        )


def check_template(template: str) -> None:
    """DatasetError unless the template holds `{}` exactly once."""
    if template.count("{}") != 1:
        raise DatasetError(
            f"template {template!r} needs {{}} exactly once: it is where '<placeholder> category' "
            f"goes, e.g. {DEFAULT_TEMPLATE!r}"
        )


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF tag asks, in RGB; transparency becomes white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(backdrop, rgba).convert("RGB")
    if image.mode in ("I;16", "I;16B", "I"):
        scaled = np.asarray(image, dtype=np.float32) / 256.0
        return Image.fromarray(scaled.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def read_photo(path: Path, name: str) -> Photo:
    """One image file, upright. DatasetError names a file that is empty, broken or no image."""
    try:
        if path.stat().st_size == 0:
            raise DatasetError(f"{name} is empty (0 bytes)")
        with Image.open(path) as opened:
            opened.load()
            return Photo(name, upright(opened))
    except UnidentifiedImageError as error:
        raise DatasetError(f"{name} is not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{name} is too large to be opened safely: {error}") from error
    except (OSError, SyntaxError) as error:
        raise DatasetError(f"{name} is broken or unreadable: {error}") from error


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder and its sub-folders, sorted by their path inside it.

    Hidden files and folders are passed over. DatasetError if the folder is missing or holds none.
    """
    if not folder.exists():
        raise DatasetError(f"folder {folder} does not exist: check the path")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file: give the folder that holds the photos")
    files = [path for path in _files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DatasetError(f"folder {folder} holds no image ({kinds}): put the photos there")
    return files


def foreign_files(folder: Path) -> list[str]:
    """Names of the files below a folder that are no images; the system's own clutter left out."""
    return [
        path.relative_to(folder).as_posix()
        for path in _files(folder)
        if path.suffix.lower() not in IMAGE_SUFFIXES and path.name.lower() not in _CLUTTER
    ]


def _files(folder: Path) -> list[Path]:
    """Visible files below a folder, sorted by their path inside it."""
    return sorted(
        (
            path
            for path in folder.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ),
        key=lambda path: path.relative_to(folder).as_posix(),
    )


def load_folder(folder: Path, *, skip_broken: bool = False) -> tuple[Photo, ...]:
    """The photos of a folder. A broken file is an error that names it, or is skipped on request."""
    photos: list[Photo] = []
    broken = [f"{name} is not an image" for name in foreign_files(folder)]
    for path in image_files(folder):
        try:
            photos.append(read_photo(path, path.relative_to(folder).as_posix()))
        except DatasetError as error:
            broken.append(str(error))
    if broken and not skip_broken:
        raise DatasetError(
            "; ".join(broken) + ". Mend or remove it, or turn on 'skip_broken' to use the rest"
        )
    for message in broken:
        log.warning("skipped: %s", message)
    if not photos:
        raise DatasetError(f"no photo of {folder} could be read: " + "; ".join(broken))
    return tuple(photos)


def photos_from_arrays(images: Sequence[np.ndarray], name: str = "image") -> tuple[Photo, ...]:
    """Photos from float arrays (height, width, 3 or 4) in 0..1, as ComfyUI's IMAGE holds them.

    They are called `<name> 1`, `<name> 2`, ... in messages.
    """
    photos = []
    for number, array in enumerate(images, start=1):
        pixels = np.round(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)
        photos.append(Photo(f"{name} {number}", upright(Image.fromarray(pixels))))
    return tuple(photos)
