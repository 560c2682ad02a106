"""LatentPool: crops of photos that are encoded once and drawn again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from ..config.data import DataConfig
from .augmentation import Crop, draw_crop_of
from .draws import step_generator
from .latent_cache import LatentCache
from .latent_source import Encoded, LatentSource, RenderedCrop
from .photo import Photo
from .rendered_ahead import done_ahead

log = logging.getLogger(__name__)

Sample = tuple[Photo, Crop]
Key = tuple[str, Crop]
"""A photo's `key`, and a crop of it."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """What a place of training does for its pools."""

    at_once: int = 1
    """Crops of a photo that are encoded in one call. Another number gives other last bits, so it
    has to be the machine's, and not the moment's."""
    room: float = float("inf")
    """Bytes of main memory for latents: also the machine's."""
    cache: LatentCache | None = None
    """Where they are kept for the next training; None: nowhere."""


def pool_crops(data: DataConfig, seed: int, photos: int, room: float = float("inf")) -> list[Crop]:
    """The crops that every one of so many photos has in the pool of a DataConfig; none: no pool.
    As many as are asked for, or as go into `room` bytes."""
    size, side = data.crops, data.resolution // 8
    each = photos * 6 * 4 * side * side  # four channels and two weights, fp32
    if size * each > room:
        fitting = max(1, int(room // each))
        log.warning(
            "latent_pool: %d crops of %d photos would take %.1f GB of main memory, %d are kept "
            "per photo",
            size,
            photos,
            size * each / 1e9,
            fitting,
        )
        size = fitting
    crops = [draw_crop_of(data, step_generator("pool", seed, i)) for i in range(size)]
    if data.one_crop and not crops:
        return [Crop()]  # there is no other
    return crops


class LatentPool:
    """Latents of some crops of some photos: filled ahead, or one by one as they are drawn.

    What is filled ahead is encoded photo by photo, `at_once` crops in a call, always the same ones
    together: the latents of a photo are the same bytes whatever else there is, on disk or not.
    """

    def __init__(
        self,
        source: LatentSource,
        photos: Sequence[Photo],
        crops: Sequence[Crop],
        key: Mapping[str, Any],
        settings: PoolSettings,
    ) -> None:
        """`crops`: those of every photo; none: nothing is kept. `key`: what else decides latents,
        as plain data."""
        self._source = source
        self._photos = {photo.key: photo for photo in photos}
        self.crops = tuple(crops)
        self._own = tuple(dict.fromkeys(crops))
        self._key = dict(key)
        self._settings = settings
        self._kept: dict[Key, Encoded] = {}

    @property
    def at_once(self) -> int:
        """Crops in a call, when it is filled."""
        return self._settings.at_once

    def fills(self, most: int) -> bool:
        """Whether it is filled ahead: not if it holds more than so many crops."""
        return 0 < len(self._photos) * len(self._own) <= most

    def fill(self, most: int, progress: Callable[[int, int], None] | None = None) -> bool:
        """Encodes all of it, if these are not more than `most` crops; whether it did. `progress`
        hears how many of those that no disk had are done, and of how many."""
        if not self.fills(most):
            return False
        cache = self._settings.cache
        missing = []
        for photo in self._photos.values():
            found = None if cache is None else cache.read(self._file_key(photo), len(self._own))
            if found is None:
                missing.append(photo)
            else:
                self._keep(photo, self._own, found)
        if missing:
            self._encode(missing, progress)
        if cache is not None:
            there = len(self._photos) - len(missing)
            if there:
                log.info("%d of %d pictures were encoded before", there, len(self._photos))
            cache.tidy()
        return True

    def render(self, samples: Sequence[Sample]) -> dict[Key, RenderedCrop]:
        """The samples that are not encoded yet. Any thread may ask."""
        missing = {(photo.key, crop): photo for photo, crop in samples}
        return {
            key: self._source.render(photo, key[1])
            for key, photo in missing.items()
            if key not in self._kept
        }

    def encode(
        self, samples: Sequence[Sample], rendered: Mapping[Key, RenderedCrop]
    ) -> list[Encoded]:
        """The latents of samples, from what `render` gave for them."""
        keys = [(photo.key, crop) for photo, crop in samples]
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        fresh = self._source.encode([rendered[key] for key in missing])
        found = dict(zip(missing, fresh, strict=True))
        if self.crops:
            self._kept.update(found)
        return [found[key] if key in found else self._kept[key] for key in keys]

    def _encode(self, photos: Sequence[Photo], progress: Callable[[int, int], None] | None) -> None:
        """Pictures that no disk had; each is on disk before the next is begun."""
        cache, done, total = self._settings.cache, 0, len(photos) * len(self._own)
        parts = list(self._parts())
        work = [(photo, part) for photo in photos for part in parts]

        def render(job: tuple[Photo, tuple[Crop, ...]]) -> list[RenderedCrop]:
            return [self._source.render(job[0], crop) for crop in job[1]]

        with closing(done_ahead(render, work)) as rendered:
            for (photo, part), crops in zip(work, rendered, strict=True):
                self._keep(photo, part, self._source.encode(crops, together=True))
                done += len(part)
                if cache is not None and part is parts[-1]:
                    whole = [self._kept[photo.key, crop] for crop in self._own]
                    cache.write(self._file_key(photo), whole)
                if progress is not None:
                    progress(done, total)

    def _parts(self) -> Iterator[tuple[Crop, ...]]:
        """The crops that are encoded in one call."""
        for start in range(0, len(self._own), self._settings.at_once):
            yield self._own[start : start + self._settings.at_once]

    def _keep(self, photo: Photo, crops: Sequence[Crop], latents: Sequence[Encoded]) -> None:
        for crop, latent in zip(crops, latents, strict=True):
            self._kept[photo.key, crop] = latent

    def _file_key(self, photo: Photo) -> dict[str, Any]:
        """Everything that decides a picture's latents, but the encoder. `mask_fill` does not: the
        weights of the fill are kept either way."""
        crops, at_once = [asdict(crop) for crop in self._own], self._settings.at_once
        return {**self._key, "photo": photo.key, "crops": crops, "at_once": at_once}
