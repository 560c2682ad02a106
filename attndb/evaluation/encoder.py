"""Encoder: what pictures and texts are compared by; Features: its unit vectors, computed once.

A picture is (Y, X, 3) fp32 in 0..1, of any size. D features.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

_T = TypeVar("_T")
_MOST_KEPT = 20_000
"""Vectors: 60 MB of 768 features each."""


class Encoder(Protocol):
    """A frozen network that turns pictures, and perhaps texts, into vectors of one space."""

    name: str
    """What it is called in tables."""
    key: str
    """What its vectors are kept under: another network has another one."""
    batch: int
    """Pictures or texts in one call."""
    reads_text: bool
    """Whether it has a text half in the same space."""

    def images(self, pictures: Sequence[Tensor]) -> Tensor:
        """Vectors (N, D) of pictures of any sizes."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (N, D) of texts. ValueError if it reads none."""
        ...


class FeatureStore:
    """Vectors by encoder and content, the newest 20,000."""

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], Tensor] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Tensor | None:
        """A vector (D,), or None."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: tuple[str, str], vector: Tensor) -> None:
        """Keeps a vector; of too many the one not asked for longest goes."""
        self._kept[key] = vector
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


_SHARED = FeatureStore()


class Features:
    """Unit vectors by an encoder; what was computed of the same content before is not again."""

    def __init__(self, encoder: Encoder, store: FeatureStore = _SHARED) -> None:
        self.encoder = encoder
        self._store = store

    def pictures(self, pictures: Sequence[Tensor], what: str = "image") -> Tensor:
        """Unit vectors (N, D), fp32 on the CPU. ValueError without a picture, or for one that is
        none, by `what` they are to a user."""
        if not pictures:
            raise ValueError(f"there is no {what}: connect at least one")
        for number, picture in enumerate(pictures, start=1):
            if 0 in picture.shape or not bool(picture.isfinite().all()):
                raise ValueError(
                    f"{what} {number} of {len(pictures)} is empty, or holds values that are no "
                    "colours (NaN): look at it, and draw or load it anew"
                )
        return self._of(pictures, _picture_digest, self.encoder.images)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, D), fp32 on the CPU. ValueError if the encoder reads no text."""
        if not self.encoder.reads_text:
            raise ValueError(
                f"the encoder {self.encoder.name} reads no text: use CLIP for scores of text"
            )
        return self._of(texts, _text_digest, self.encoder.texts)

    def _of(
        self,
        items: Sequence[_T],
        digest: Callable[[_T], str],
        encode: Callable[[Sequence[_T]], Tensor],
    ) -> Tensor:
        keys = [(self.encoder.key, digest(item)) for item in items]
        found: dict[tuple[str, str], Tensor] = {}
        missing: dict[tuple[str, str], _T] = {}
        for key, item in zip(keys, items, strict=True):
            kept = self._store.get(key)
            if kept is None:
                missing[key] = item
            else:
                found[key] = kept
        names, wanted = list(missing), list(missing.values())
        for start in range(0, len(wanted), self.encoder.batch):
            part = wanted[start : start + self.encoder.batch]
            with torch.no_grad():
                raw = encode(part).detach().float().cpu()
            if not bool(raw.isfinite().all()):
                raise ValueError(
                    f"the encoder {self.encoder.name} gives numbers that are not finite: restore "
                    "its files, or use it in fp32"
                )
            for key, vector in zip(names[start : start + len(part)], raw, strict=True):
                found[key] = F.normalize(vector, dim=-1)
                self._store.put(key, found[key])
        return torch.stack([found[key] for key in keys])


def _picture_digest(picture: Tensor) -> str:
    pixels = picture.detach().float().cpu().contiguous()
    content = hashlib.sha256(repr(tuple(pixels.shape)).encode())
    content.update(pixels.numpy().data)
    return content.hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(f"text\0{text}".encode(errors="surrogatepass")).hexdigest()
