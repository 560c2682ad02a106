"""LatentCache: encoded crops on disk, found again by everything that decides them.

One safetensors file per photo (or prior image), named by the SHA-256 of its key: photo, mask,
crops, resolution, autoencoder, versions. A file may be deleted at any time, and one that is damaged
or somebody else's is passed over and written anew: what is read has a checksum that is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
from torch import Tensor

from ..artifacts.checked_file import check_content, checked_writer
from ..artifacts.partial_files import remove_stale_partial_files
from ..artifacts.tensor_file import read_tensors, size_text, write_whole
from .latent_source import Encoded

log = logging.getLogger(__name__)

LIMIT_VARIABLE = "ATTNDB_LATENTS_GB"
"""Environment variable of the server's owner: gigabytes that all kept latents may take; 0 keeps
none. Not set: DEFAULT_LIMIT."""
DEFAULT_LIMIT = 2e9
"""Bytes. A photo's 128 crops of 512 pixels take 10 MB."""
VERSION = 1
"""Raised whenever the code makes other latents of the same photo and crop."""

_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_KEY = "attndb.latents"


class LatentCache:
    """A folder of encoded crops, bounded in size; those used longest ago go first."""

    def __init__(
        self, folder: Path, encoder: Mapping[str, Any], limit: float | None = DEFAULT_LIMIT
    ) -> None:
        """`encoder`: plain data that says what encodes (weights, dtype, device, versions).
        `limit`: bytes of all files; None: no limit."""
        self._folder = folder
        self._encoder = dict(encoder)
        self._limit = float("inf") if limit is None else limit
        self._broken = self._said = False

    def read(self, key: Mapping[str, Any], most: int) -> list[Encoded]:
        """The latents that were kept under this key, `most` or the first of them; none if there are
        none to rely on."""
        path = self._path(key)
        try:
            tensors, metadata = read_tensors(path)
            check_content(path)
            latents, weights = tensors.get("latents"), tensors.get("weights")
            if metadata.get(_KEY) != path.stem or not _fit(latents, weights, most):
                raise ValueError("it holds something else")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            log.warning("%s is passed over, its crops are encoded again: %s", path, error)
            return []
        with contextlib.suppress(OSError):
            os.utime(path)  # used now: others go first
        assert latents is not None and weights is not None, "they fit"
        return list(zip(latents.unbind(), weights.unbind(), strict=True))

    def write(self, key: Mapping[str, Any], crops: Sequence[Encoded]) -> None:
        """Keeps latents under a key. A disk that cannot take them is warned of, once."""
        path = self._path(key)
        tensors = {
            "latents": torch.stack([latent for latent, _ in crops]),
            "weights": torch.stack([weights for _, weights in crops]),
        }
        size = sum(t.nbytes for t in tensors.values())
        if size > self._limit:
            self._say_too_large(size)
        if self._broken or size > self._limit:
            return
        try:
            write_whole({path: checked_writer(tensors, {_KEY: path.stem})})
        except OSError as error:
            self._broken = True
            reason = error.__cause__ or error
            log.warning(
                "%s: encoded crops cannot be kept (%s). The training goes on; the next one encodes "
                "them again",
                self._folder,
                reason,
            )

    def _say_too_large(self, size: int) -> None:
        if self._said or not self._limit:  # 0 is a choice
            return
        self._said = True
        log.warning(
            "%s: one picture's crops take %s, and all may take %s: they are not kept, and the next "
            "training encodes them again. Choose a smaller latent_pool, or a larger %s",
            *(self._folder, size_text(size), size_text(self._limit), LIMIT_VARIABLE),
        )

    def tidy(self) -> None:
        """Removes what dead processes left half-written, and the files used longest ago until the
        rest fits into the limit."""
        remove_stale_partial_files(self._folder)
        found: list[tuple[float, int, Path]] = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if _NAME.fullmatch(path.name) and not path.is_symlink() and path.is_file():
                    with contextlib.suppress(OSError):
                        state = path.stat()
                        found.append((state.st_mtime, state.st_size, path))
        total, removed = sum(size for _, size, _ in found), 0
        for _, size, path in sorted(found):
            if total <= self._limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                total, removed = total - size, removed + size
        if removed:
            log.info("%s: removed %s (%s)", self._folder, size_text(removed), LIMIT_VARIABLE)

    def _path(self, key: Mapping[str, Any]) -> Path:
        whole = {"version": VERSION, "pillow": PIL.__version__, **self._encoder, "key": dict(key)}
        text = json.dumps(whole, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"


def _fit(latents: Tensor | None, weights: Tensor | None, most: int) -> bool:
    """Whether these can be 1 to `most` latents (C, Y, X) with their weights (1 or 2, Y, X)."""
    if latents is None or weights is None or latents.ndim != 4 or weights.ndim != 4:
        return False
    same = latents.shape[0] == weights.shape[0] and latents.shape[2:] == weights.shape[2:]
    return same and 1 <= len(latents) <= most and latents.dtype == weights.dtype == torch.float32
