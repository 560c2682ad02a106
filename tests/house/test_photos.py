"""The photos that tests train on are real, upright once EXIF is obeyed, and of one subject."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from attndreambooth.devkit.photos import TURNED, write_photos


def test_five_photos_are_written_in_sorted_order(tmp_path):
    paths = write_photos(tmp_path)
    assert [p.name for p in paths] == sorted(p.name for p in tmp_path.iterdir())
    assert len(paths) == 5
    assert {p.suffix for p in paths} == {".png", ".jpg"}


def test_the_turned_photo_is_upright_only_by_its_exif_tag(tmp_path):
    write_photos(tmp_path)
    stored = Image.open(tmp_path / TURNED)
    upright = ImageOps.exif_transpose(stored)
    assert stored.size == (240, 200)
    assert upright.size == (200, 240)
    whole = np.asarray(Image.open(tmp_path / "cat_1.png"), dtype=float)
    crop = whole[20:260, 120:320]
    assert np.abs(np.asarray(upright, dtype=float) - crop).mean() < 4


def test_there_are_not_six(tmp_path):
    with pytest.raises(ValueError, match="count"):
        write_photos(tmp_path, 6)
