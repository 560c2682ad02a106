"""Photos of iPhones: read where the package pillow-heif is, else refused with the remedy."""

from __future__ import annotations

import io
import json
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.heic import save_heic, without_reader

from attndreambooth.attndb import __main__ as program
from attndreambooth.attndb.data import photo_file, picture_formats
from attndreambooth.attndb.data.folder import load_folder
from attndreambooth.attndb.data.photo import DatasetError
from attndreambooth.attndb.data.photo_file import read_photo
from attndreambooth.attndb.data.picture_formats import image_suffixes, unread_suffixes
from attndreambooth.attndb.data.scan import scan

pytest.importorskip("pillow_heif")
REMEDY = f"run '{sys.executable} -m pip install pillow-heif' and start anew, or save as JPEG"


def halves(width=96, height=64):
    """Left half red, right half blue."""
    picture = Image.new("RGB", (width, height), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, width // 2, height))
    return picture


def colours(image):
    """At the corners: top left, top right, bottom right, bottom left."""
    w, h = image.size
    at = [(2, 2), (w - 3, 2), (w - 3, h - 3), (2, h - 3)]
    return "".join("r" if image.getpixel(place)[0] > 128 else "b" for place in at)


def test_a_heic_is_a_photo_as_every_other(tmp_path):
    save_heic(halves(), tmp_path / "IMG_1.HEIC")
    halves().save(tmp_path / "IMG_2.jpg", quality=95)
    first, second = load_folder(tmp_path)
    assert (first.name, first.image.mode, first.image.size) == ("IMG_1.HEIC", "RGB", (96, 64))
    assert np.abs(np.asarray(first.image).astype(int) - np.asarray(second.image)).mean() < 3
    assert {".heic", ".heif", ".hif"} <= image_suffixes() and not unread_suffixes()


def test_a_heic_under_the_name_of_a_jpeg_is_read(tmp_path):
    save_heic(halves(), tmp_path / "a.jpg")
    assert load_folder(tmp_path)[0].image.size == (96, 64)


@pytest.mark.parametrize(
    ("turn", "size", "at"),
    [(1, (96, 64), "rbbr"), (3, (96, 64), "brrb"), (6, (64, 96), "rrbb"), (8, (64, 96), "bbrr")],
)
def test_a_phone_s_photo_is_turned_once(tmp_path, turn, size, at):
    image = read_photo(save_heic(halves(), tmp_path / "a.heic", turn), "a.heic").image
    assert (image.size, colours(image)) == (size, at)


def test_its_profile_becomes_srgb(tmp_path, caplog):
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = lab.replace(b"sRGB built-in", b"gamma builtin").replace(
        "sRGB built-in".encode("utf-16-be"), "gamma builtin".encode("utf-16-be")
    )
    save_heic(halves(), tmp_path / "a.heic", icc_profile=wide)
    with caplog.at_level(logging.INFO):
        load_folder(tmp_path)
    assert "colours converted from" in caplog.text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"color_primaries": 12}, "a.heic: its colours are Display P3 and are taken for sRGB"),
        ({"transfer_characteristics": 16}, "its colours are HDR (PQ) and are taken for sRGB"),
        ({}, ""),
    ],
)
def test_colours_without_a_profile_that_are_not_srgb_are_told(tmp_path, caplog, said, told):
    save_heic(halves(), tmp_path / "a.heic", **said)
    load_folder(tmp_path)
    assert told in caplog.text and ("taken for" in caplog.text) == bool(told)


def test_transparency_is_white_or_a_mask(tmp_path):
    clear = halves().convert("RGBA")
    clear.paste((0, 0, 255, 0), (48, 0, 96, 64))
    save_heic(clear, tmp_path / "a.heic")
    [photo] = load_folder(tmp_path, masks="alpha")
    assert photo.image.getpixel((80, 30)) == (255, 255, 255)
    assert photo.mask.getpixel((80, 30)) == 0 and photo.mask.getpixel((10, 30)) == 255


def test_one_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    import pillow_heif

    save_heic(halves(), tmp_path / "a.heic")
    monkeypatch.setattr(photo_file, "_MOST_PIXELS_ELSE", 96 * 64 - 1)
    monkeypatch.setattr(pillow_heif.HeifImage, "data", property(lambda _: pytest.fail("decoded")))
    with pytest.raises(DatasetError, match=r"a\.heic is too large to be opened safely: 96 x 64"):
        load_folder(tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_cut_or_foreign_one_is_named(tmp_path, part):
    whole = save_heic(halves(), tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(whole[: int(len(whole) * part)])
    (tmp_path / "b.heic").write_bytes(b"no picture at all, but some text")
    with pytest.raises(DatasetError, match=r"a\.heic is .*; b\.heic is not an image that can be"):
        load_folder(tmp_path)


def test_inspect_counts_it(tmp_path, capsys):
    save_heic(halves(), tmp_path / "IMG_1.HEIC", 6)
    assert program.main(["inspect", "--json", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["facts"]["sizes"] == {"IMG_1.HEIC": "64 x 96"}


# ---- where nothing reads it


def test_without_the_package_all_are_named_once_with_the_remedy(tmp_path):
    for number in range(1, 8):
        save_heic(halves(), tmp_path / f"IMG_{number}.HEIC")
    (tmp_path / "IMG_1.txt").write_text("a {}")
    halves().save(tmp_path / "a.png")
    for number in range(6):
        (tmp_path / f"0{number}.doc").touch()
    with without_reader("HEIF"):
        with pytest.raises(DatasetError) as caught:
            load_folder(tmp_path)
        message = str(caught.value)
        assert message.startswith("IMG_1.HEIC, IMG_2.HEIC, IMG_3.HEIC, ")
        assert f"and 2 more are HEIC, which nothing in this Python reads: {REMEDY}" in message
        assert message.count("pip install") == 1 and "IMG_1.txt" not in message
        assert [photo.name for photo in load_folder(tmp_path, skip_broken=True)] == ["a.png"]
        assert ".heic" not in image_suffixes() and ".heic" in unread_suffixes()
    assert len(scan(tmp_path).images) == 8


def test_without_the_package_a_folder_of_them_alone_says_so(tmp_path):
    save_heic(halves(), tmp_path / "IMG_1.HEIC")
    with without_reader("HEIF"), pytest.raises(DatasetError) as caught:
        load_folder(tmp_path)
    assert f"folder {tmp_path}: IMG_1.HEIC is HEIC, which" in str(caught.value)
    assert REMEDY in str(caught.value) and "Most Compatible" in str(caught.value)


def test_without_the_package_one_under_another_name_says_what_it_is(tmp_path):
    save_heic(halves(), tmp_path / "a.jpg")
    with without_reader("HEIF"), pytest.raises(DatasetError) as caught:
        load_folder(tmp_path)
    assert f"a.jpg is HEIC, which nothing in this Python reads: {REMEDY}" in str(caught.value)


def test_an_old_pillow_is_to_be_updated_for_avif(tmp_path):
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x20ftypavif" + b"\0" * 40)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.avif").read_bytes())
    with without_reader("AVIF", "HEIF"), pytest.raises(DatasetError) as caught:
        load_folder(tmp_path)
    assert str(caught.value).startswith("a.avif is AVIF, which nothing in this Python reads: run")
    assert "b.png is AVIF" in str(caught.value)
    assert "-m pip install --upgrade pillow' and start anew" in str(caught.value)


def test_a_reader_of_another_pack_is_left_as_it_is():
    calls = []
    with without_reader("HEIF"):
        other = (lambda *_: calls.append(1), lambda _: False)
        Image.register_open("HEIF", *other)
        assert ".heic" in image_suffixes() and Image.OPEN["HEIF"] == other
        del Image.OPEN["HEIF"]
    assert image_suffixes() and not calls


def test_an_old_pillow_heif_reads_avif_where_pillow_does_not():
    asked = []
    package = SimpleNamespace(
        register_heif_opener=lambda: asked.append("HEIF"),
        register_avif_opener=lambda: asked.append("AVIF"),
    )
    with without_reader("AVIF", "HEIF", package=package):
        assert image_suffixes() and image_suffixes() and asked == ["HEIF", "AVIF"]


def test_a_broken_pillow_heif_is_told_and_not_needed(tmp_path, caplog):
    def broken():
        raise ImportError("DLL load failed")

    halves().save(tmp_path / "a.png")
    with without_reader("HEIF", package=SimpleNamespace(register_heif_opener=broken)):
        assert len(load_folder(tmp_path)) == len(load_folder(tmp_path)) == 1
        assert ".heic" in unread_suffixes()
    assert caplog.text.count("pillow-heif is installed, and cannot be used: DLL load failed") == 1


def test_a_heic_and_an_avif_with_the_general_brand_are_told_apart(tmp_path):
    heic = save_heic(halves(), tmp_path / "a.heic")
    heic.write_bytes(heic.read_bytes().replace(b"ftypheic", b"ftypmif1", 1))
    if "AVIF" in picture_formats.readable_formats():
        buffer = io.BytesIO()
        halves().save(buffer, "AVIF")
        content = buffer.getvalue().replace(b"ftypavif", b"ftypmif1", 1)
        (tmp_path / "b.avif").write_bytes(content)
    assert {photo.image.size for photo in load_folder(tmp_path)} == {(96, 64)}
