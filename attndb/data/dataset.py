"""ConceptDataset: the photos of one subject, upright, with the words that go with them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..config.printable import printable, quoted
from ..config.words import word_key
from .photo import DatasetError, Photo
from .prior import DEFAULT_PRIOR_PROMPT, PriorImages

DEFAULT_TEMPLATE = "a photo of a {}"
DEFAULT_PLACEHOLDER = "<my-subject>"
_LONGEST_WORD = 64
"""Characters of placeholder and category: files and folders are named after them."""
_LONGEST_TEMPLATE = 1000
_MOST_TEMPLATES = 200


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
    """Training prompt of photos without a caption, or several of them, one a line, which come
    equally often; `{}` becomes `<placeholder> category`."""
    prior: PriorImages | None = None
    """Pictures of the category for prior preservation in stages 2 and 3; None: as published."""
    background: float = 0.0
    """What the pixels around the subject count in the loss, 0..1, on photos that have a mask."""
    private: bool = False
    """Neither names of the photos nor a small picture of them go into saved files. It changes
    nothing that is trained, and is no part of the digest."""

    def __post_init__(self) -> None:
        if not self.photos:
            raise DatasetError("the dataset holds no photo: give 3 to 6 photos of the subject")
        check_category(self.category)
        check_placeholder(self.placeholder, self.category)
        check_templates(self.templates)
        if not 0.0 <= self.background <= 1.0:
            raise DatasetError(
                f"background_weight = {self.background:g}: use 0 (the subject alone counts) to 1 "
                "(all counts)"
            )
        for photo in self.photos:
            if photo.caption is not None:
                check_template(photo.caption, f"caption of {printable(photo.name, 200)}:")
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

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """The template, or the lines of it."""
        return templates_in(self.template)

    @property
    def prompt(self) -> str:
        """The training prompt of the first template, e.g. `a photo of a <my-sloth> sloth`."""
        return self._filled(self.templates[0])

    def prompts_of(self, photo: Photo) -> tuple[str, ...]:
        """What a photo is trained with: its caption, or each of the templates in turn."""
        if photo.caption is not None:
            return (self._filled(photo.caption),)
        return tuple(map(self._filled, self.templates))

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Every training prompt once, the first photo's first."""
        return tuple(dict.fromkeys(p for photo in self.photos for p in self.prompts_of(photo)))

    def prompts_of_a(self, subject: str) -> tuple[str, ...]:
        """`prompts`, in their order, with other words for the subject."""
        return tuple(prompt.replace(self._subject, subject) for prompt in self.prompts)

    def source_of(self, prompt: str) -> str:
        """Where a training prompt comes from, as a message names it."""
        for photo in self.photos:
            if photo.caption is not None and self._filled(photo.caption) == prompt:
                return f"the caption {photo.caption!r} of {printable(photo.name, 200)}"
        [template] = [t for t in dict.fromkeys(self.templates) if self._filled(t) == prompt]
        return f"template {template!r}"

    def _filled(self, template: str) -> str:
        return template.replace("{}", self._subject)

    @property
    def _subject(self) -> str:
        return f"{self.placeholder} {self.category}"

    @cached_property
    def masked(self) -> bool:
        """Whether a photo has a mask."""
        return any(photo.mask is not None for photo in self.photos)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of photos and words, and of the prior images if there are any."""
        content = hashlib.sha256()
        for photo in self.photos:
            content.update(photo.digest.encode())
        words = (self.category, self.placeholder, "\n".join(self.templates))
        content.update("\0".join(words).encode())
        captions = [photo.caption for photo in self.photos]
        if any(caption is not None for caption in captions):
            content.update(f"\0captions {json.dumps(captions)}".encode())
        if self.masked:
            masks = [photo.mask_digest for photo in self.photos]
            content.update(f"\0masks {json.dumps([masks, self.background])}".encode())
        if self.prior is not None:
            content.update(f"\0prior {self.prior.digest}".encode())
        return content.hexdigest()


def _check_text(name: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise DatasetError(
            f"{name} {quoted(text, 40)} has {len(text)} characters, and {longest} are the most: "
            "shorten it"
        )
    if not text.isprintable():
        raise DatasetError(
            f"{name} {quoted(text)} holds a line end or a character that is no text: type it anew"
        )


def check_category(category: str) -> None:
    """DatasetError if the super-category is empty or holds prompt syntax."""
    _check_text("category", category, _LONGEST_WORD)
    if not category.strip():
        raise DatasetError(
            "category is empty: type the plain word for what the subject is, e.g. dog, backpack"
        )
    if category != category.strip() or re.search(r"[()<>{}\[\]:\\]", category):
        raise DatasetError(
            f"category {category!r}: use plain words without brackets, colons, backslashes or "
            "spaces around"
        )


def check_placeholder(placeholder: str, category: str) -> None:
    """DatasetError if the placeholder could not be found again in a prompt."""
    _check_text("placeholder", placeholder, _LONGEST_WORD)
    if not placeholder.strip():
        raise DatasetError("placeholder is empty: type a new word, e.g. <my-dog>")
    if re.search(r"[\s(){}:,\\]", placeholder):
        raise DatasetError(
            f"placeholder {placeholder!r}: leave out spaces, commas, colons, backslashes and "
            "round or curly brackets; a form like <my-dog> is safe"
        )
    if word_key(placeholder) in word_key(category).split():
        raise DatasetError(
            f"placeholder {placeholder!r} is the category itself: choose a new word, e.g. "
            f"<my-{placeholder.strip('<>').lower()}>"
        )
    if placeholder.isalpha():
        raise DatasetError(
            f"placeholder {placeholder!r} is already a word, or could be one to the model: write a "
            f"new one, e.g. <my-{placeholder.lower()}>"
        )


def templates_in(text: str) -> tuple[str, ...]:
    """One template, as it is, or those of a text of several lines."""
    if "\n" not in text:
        return (text,)
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def check_templates(templates: Sequence[str]) -> None:
    """DatasetError unless there are templates, not too many, and each is one."""
    if len(templates) > _MOST_TEMPLATES:
        raise DatasetError(
            f"template has {len(templates)} lines, and {_MOST_TEMPLATES} are the most: each line "
            "is a training prompt"
        )
    for template in templates or ("",):
        check_template(template)


def check_template(template: str, name: str = "template") -> None:
    """DatasetError, which names it, unless the template holds `{}` exactly once."""
    _check_text(name, template, _LONGEST_TEMPLATE)
    if template.count("{}") != 1:
        raise DatasetError(
            f"{name} {template!r} needs {{}} exactly once: it is where '<placeholder> category' "
            f"goes, e.g. {DEFAULT_TEMPLATE!r}"
        )
