"""The picture in a record is a small one, or none is read."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from support.pictured import pictured

from attndreambooth.attndb.artifacts.manager_metadata import open_thumbnail, preview_writer


def test_a_large_picture_in_a_record_is_not_decoded():
    file = io.BytesIO()
    Image.new("L", (5000, 4000)).save(file, "PNG")
    with pytest.raises(ValueError, match="no thumbnail: 5000 x 4000 px, and at most 16 megapixels"):
        open_thumbnail(file.getvalue())
    assert preview_writer(pictured(4100, "PNG")) is None
    write = preview_writer(pictured())
    assert write is not None
    write(file := io.BytesIO())
    assert Image.open(file).size == (16, 16)


def test_another_kind_of_file_is_not_tried():
    assert preview_writer(pictured(16, "GIF")) is None
