"""Over 300 bad files: each is a photo or an error that names it; none crashes, hangs or swells."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from PIL import Image
from support.apart import read_apart
from support.bad_files import ENDINGS, bad_files, good_file

from attndreambooth.attndb.data.upright import LARGEST

READER = """
from attndreambooth.attndb.data.photo import DatasetError
from attndreambooth.attndb.data.photo_file import read_photo

for path in FILES:
    start, error, size = time.process_time(), None, None
    try:
        size = read_photo(path, path.name).image.size
    except DatasetError as caught:
        error = str(caught)
    tell(path.name, size, error, time.process_time() - start, peak_kb())
"""
MOST_KB = 1 << 20
MOST_S = 20.0


@pytest.fixture(scope="module")
def corpus():
    """Every file, by name."""
    files = list(bad_files())
    assert len(dict(files)) == len(files)
    return dict(files)


@pytest.fixture(scope="module")
def told(corpus, tmp_path_factory):
    """For each bad file: name, size of the photo, error, seconds, peak memory so far in KB."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in corpus.items():
        (folder / name).write_bytes(content)
    lines = read(folder)
    assert len(lines) == len(list(folder.iterdir()))
    return lines


def read(folder):
    """For each file of a folder, in a process of its own: name, size of the photo, error, seconds,
    peak memory so far in KB."""
    return read_apart(READER, folder)


def test_the_corpus_is_large_and_the_same_every_time(corpus):
    assert len(corpus) >= 300 and dict(bad_files()) == corpus


def test_each_is_named_or_a_photo(told):
    for name, size, error, _, _ in told:
        if error is None:
            assert min(size) > 0, name
        else:
            assert error.startswith(f"{name} "), (name, error)
            assert error.isprintable() and len(error) < 500, (name, error)


def test_at_least_300_are_refused_of_every_kind(told):
    refused = Counter(name.split("-")[0] for name, _, error, *_ in told if error)
    assert refused.total() >= 300
    assert set(refused) >= {"cut", "damaged", "beheaded", "lying", "bomb", "foreign", "random"}
    assert all(error for name, _, error, *_ in told if name.startswith("foreign"))


def test_none_takes_long_or_more_than_a_gigabyte(told):
    assert {name: seconds for name, _, _, seconds, _ in told if seconds > MOST_S} == {}
    first_above = next(((name, peak) for name, *_, peak in told if peak > MOST_KB), None)
    assert first_above is None


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("100.png", (11_500, 8_690)),
        ("200-as-phones-do.jpg", (16_320, 12_240)),
        ("200-progressive.jpg", (16_320, 12_240)),
    ],
)
def test_a_sound_photo_of_that_many_megapixels_is_read_smaller_in_a_gigabyte(tmp_path, name, size):
    with Image.new("RGB", size) as photo:  # a gradient: what compresses is still large
        photo.paste(Image.linear_gradient("L").resize(photo.size).convert("RGB"))
        how = {"quality": 90, "compress_level": 1, "progressive": "progressive" in name}
        photo.save(tmp_path / name, **how)
    [[_, read_as, error, _, peak]] = read(tmp_path)
    assert error is None and peak < MOST_KB
    assert math.prod(read_as) <= LARGEST
    assert read_as[0] / read_as[1] == pytest.approx(size[0] / size[1], 1e-3)


@pytest.mark.parametrize("kind", ENDINGS)
def test_a_sound_file_of_the_kind_is_read(tmp_path, kind):
    from attndreambooth.attndb.data.photo_file import read_photo

    path = tmp_path / f"a.{ENDINGS[kind]}"
    path.write_bytes(good_file(kind))
    assert read_photo(path, path.name).image.size == (48, 48)
