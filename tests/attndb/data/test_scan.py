"""What a walk through a folder of photos takes for a photo, and what for a link."""

from __future__ import annotations

import stat
from types import SimpleNamespace

import pytest
from PIL import Image

from attndreambooth.attndb.data.folder import load_folder
from attndreambooth.attndb.data.scan import is_link, scan


def test_a_junction_of_windows_is_a_link(tmp_path):
    """`is_symlink` says no; it would lead out of the allowed folders."""
    junction = SimpleNamespace(st_mode=stat.S_IFDIR, st_reparse_tag=0xA0000003)
    assert is_link(SimpleNamespace(lstat=lambda: junction))
    (tmp_path / "link").symlink_to(tmp_path)
    assert is_link(tmp_path / "link") and not is_link(tmp_path)


def test_a_picture_that_windows_saved_from_a_browser_is_a_photo(tmp_path):
    """Its registry calls image/jpeg `.jfif`."""
    Image.new("RGB", (80, 60), "red").save(tmp_path / "dog.jfif", "JPEG")
    (tmp_path / "dog.txt").write_text("a {} in the snow", encoding="utf-8")
    [photo] = load_folder(tmp_path, captions="text files")
    assert (photo.name, photo.image.size, photo.caption) == (
        "dog.jfif",
        (80, 60),
        "a {} in the snow",
    )


@pytest.mark.parametrize("folder", ["@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".thumbs"])
def test_thumbnails_and_bins_of_systems_are_no_photos(tmp_path, folder):
    hidden = tmp_path / "trip" / folder
    hidden.mkdir(parents=True)
    for place in (hidden, tmp_path):
        Image.new("RGB", (80, 60), "red").save(place / "dog.jpg")
    assert scan(tmp_path).images == (tmp_path / "dog.jpg",)
