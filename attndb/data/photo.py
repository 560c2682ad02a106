"""Photo: one picture with its name and digest; what dataset and prior images are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from PIL import Image


class DatasetError(ValueError):
    """A concept dataset that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Photo:
    """One photo of the subject, or one picture of its category."""

    name: str
    """File name, or `image 3` for one that came over a wire; used in messages."""
    image: Image.Image
    """Upright RGB picture."""
    caption: str | None = None
    """What is on it, with `{}` for the subject; None: the dataset's template says it."""
    mask: Image.Image | None = None
    """Where the subject is: as large as the picture, 255 for the subject; None: nobody said."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of size and pixels of the picture."""
        return _digest(self.image)

    @cached_property
    def mask_digest(self) -> str:
        """SHA-256 of the mask; empty without one."""
        return "" if self.mask is None else _digest(self.mask)

    @property
    def key(self) -> str:
        """Of everything computed from this photo and its mask."""
        return self.digest + self.mask_digest

    def record(self, private: bool) -> dict[str, str]:
        """Plain data for a concept's record; of a private photo nothing that can be read."""
        if private:
            return {"sha256": self.digest}
        caption = {} if self.caption is None else {"caption": self.caption}
        return {"name": self.name, "sha256": self.digest, **caption}


def _digest(image: Image.Image) -> str:
    content = hashlib.sha256(repr(image.size).encode())
    content.update(image.tobytes())
    return content.hexdigest()
