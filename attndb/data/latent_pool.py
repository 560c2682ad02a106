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
    in_tiles: Callable[[], int] = int
    """Pictures so far that were encoded in tiles, for want of memory: other latents than the key
    of kept ones says."""


def pool_size(data: DataConfig, photos: int, room: float = float("inf")) -> int:
    """Crops of a photo in the pool of a DataConfig, if each of so many photos has as many: what is
    asked for, or what goes into `room` bytes; 0: no pool."""
    size, side = data.crops or int(data.one_crop), data.resolution // 8
    each = photos * 6 * 4 * side * side  # four channels and two weights, fp32
    if data.crops * each <= room:
        return size
    fitting = max(1, int(room // each))
    log.warning(
        "latent_pool: %d crops of %d photos would take %.1f GB of main memory, %d are kept "
        "per photo",
        size,
        photos,
        size * each / 1e9,
        fitting,
    )
    return fitting


def pool_crops(data: DataConfig, seed: int, photo: Photo, size: int) -> list[Crop]:
    """The crops that a photo has in a pool of this size, its own ones, in the order of their turns:
    those of a smaller pool are the first of them."""
    if data.one_crop:
        return [Crop()] * size  # there is no other
    return [draw_crop_of(data, step_generator("pool", seed, photo.digest, i)) for i in range(size)]


class LatentPool:
    """Latents of some crops of some photos: filled ahead, or one by one as they are drawn.

    What is filled ahead is encoded photo by photo, `at_once` crops in a call, always the same ones
    together: the latents of a photo are the same bytes whatever else there is, on disk or not, and
    however many of its crops a stage needs. Those that were encoded in tiles are not, and of such a
    photo nothing is written.
    """

    def __init__(
        self,
        source: LatentSource,
        photos: Sequence[Photo],
        crops: Mapping[str, Sequence[Crop]],
        key: Mapping[str, Any],
        settings: PoolSettings,
    ) -> None:
        """`crops`: those of each photo, by its key, in the order of their turns; none: nothing is
        kept. `key`: what else decides latents, as plain data."""
        self._source = source
        self._photos = {photo.key: photo for photo in photos}
        self._crops = {photo: tuple(own) for photo, own in crops.items()}
        self._key = dict(key)
        self._settings = settings
        self._kept: dict[Key, Encoded] = {}

    @property
    def pictures(self) -> int:
        """Photos that differ."""
        return len(self._photos)

    def of(self, photo: Photo) -> Sequence[Crop]:
        """A photo's crops in the order of their turns, some of them perhaps alike; none without a
        pool."""
        return self._crops.get(photo.key, ())

    def _own(self, photo: Photo, turns: int | None = None) -> tuple[Crop, ...]:
        """Those that differ, of the first so many turns or of all: each is encoded once."""
        return tuple(dict.fromkeys(self.of(photo)[:turns]))

    def fill(self, turns: int, progress: Callable[[int, int], None] | None = None) -> bool:
        """Encodes the crops of the first so many turns of every photo, in whole calls; whether
        there is a pool. `progress` hears how many of those that no disk had are done, and of how
        many."""
        if not self._crops:
            return False
        cache = self._settings.cache
        missing: list[tuple[Photo, int, int]] = []
        for photo in self._photos.values():
            own, wanted = self._own(photo), len(self._own(photo, turns))
            found = [] if cache is None else cache.read(self._file_key(photo), len(own))
            self._keep(photo, own[: len(found)], found)
            if len(found) < wanted:
                missing.append((photo, len(found), wanted))
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
        if self._crops:
            self._kept.update(found)
        return [found[key] if key in found else self._kept[key] for key in keys]

    def _encode(
        self,
        photos: Sequence[tuple[Photo, int, int]],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Pictures, of how many crops a disk had each, and how many are wanted; each is on disk
        before the next is begun."""
        work = [(each[0], call) for each in photos for call in self._calls(*each)]
        cache, done, total = self._settings.cache, 0, sum(len(call) for _, call in work)
        before = self._settings.in_tiles()

        def render(job: tuple[Photo, Sequence[Crop]]) -> list[RenderedCrop]:
            return [self._source.render(job[0], crop) for crop in job[1]]

        with closing(done_ahead(render, work)) as rendered:
            for number, ((photo, call), crops) in enumerate(zip(work, rendered, strict=True)):
                self._keep(photo, call, self._source.encode(crops, together=True))
                done += len(call)
                last = number + 1 == len(work) or work[number + 1][0] is not photo
                if last:
                    now = self._settings.in_tiles()
                    if cache is not None and now == before:
                        own = self._own(photo)
                        there = own[: own.index(call[-1]) + 1]
                        kept = [self._kept[photo.key, c] for c in there]
                        cache.write(self._file_key(photo), kept)
                    before = now
                if progress is not None:
                    progress(done, total)

    def _calls(self, photo: Photo, there: int, wanted: int) -> Iterator[Sequence[Crop]]:
        """The crops of a photo that are encoded in one call, from the first that is not there."""
        own, at_once = self._own(photo), self._settings.at_once
        for start in range(there, wanted, at_once):
            yield own[start : start + at_once]

    def _keep(self, photo: Photo, crops: Sequence[Crop], latents: Sequence[Encoded]) -> None:
        for crop, latent in zip(crops, latents, strict=True):
            self._kept[photo.key, crop] = latent

    def _file_key(self, photo: Photo) -> dict[str, Any]:
        """Everything that decides a picture's latents, but the encoder. `mask_fill` does not: the
        weights of the fill are kept either way."""
        crops, at_once = [asdict(crop) for crop in self._own(photo)], self._settings.at_once
        return {**self._key, "photo": photo.key, "crops": crops, "at_once": at_once}
