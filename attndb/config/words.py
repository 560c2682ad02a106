"""The words of a training: its prompts, and what the placeholder begins as."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from .choices import require


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """The words of a training. The defaults are AttnDreamBooth's: the dataset's own prompt."""

    templates: tuple[str, ...] = ()
    """Training prompts, with `{}` for the subject; one is drawn for every sample. Empty: the
    dataset's."""
    with_category: bool = True
    """Whether the subject is `<placeholder> category`, or the placeholder alone."""
    initial: str = ""
    """A word whose tokens the placeholder begins as, a vector for each; empty: the category."""

    def __post_init__(self) -> None:
        for template in self.templates:
            require(template.count("{}") == 1, "template", template, "write {} exactly once")

    def subject(self, placeholder: str, category: str) -> str:
        """The words for the subject in a prompt."""
        return f"{placeholder} {category}" if self.with_category else placeholder


def word_key(word: str) -> str:
    """What tells words apart in a prompt: CLIP reads without case, and a letter and its accent, or
    the parts of a Korean syllable, as one letter. macOS writes names of files in such parts."""
    return unicodedata.normalize("NFC", word).casefold()


TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)
"""Those of Textual Inversion (Gal et al. 2022), which NeTI took over."""
