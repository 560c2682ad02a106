"""Any picture becomes upright RGB in sRGB, of bounded size; what it held besides is told."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from PIL import Image, ImageCms

from attndreambooth.attndb.data import upright as module
from attndreambooth.attndb.data.folder import load_folder
from attndreambooth.attndb.data.photo_file import read_photo
from attndreambooth.attndb.data.picture_formats import image_suffixes
from attndreambooth.attndb.data.scan import natural_key


def upright(picture):
    """As a photo's reading does it."""
    return module.upright(picture, "dogs/a.jpg")


def blocks(side=32):
    """Flat blocks of colour, alike after any lossy step."""
    grain = np.random.default_rng(3).integers(30, 226, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(grain).resize((side, side), Image.Resampling.NEAREST)


SRGB_PRIMARIES = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3_PRIMARIES = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
"""Of red, green and blue, as ICC profiles hold them (D50)."""


def rgb_profile(gamma, name="gamma", primaries=SRGB_PRIMARIES):
    """A display profile with a curve; its bytes."""
    from struct import pack

    def s15(value):
        return pack(">i", round(value * 65536))

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(map(s15, values))

    text = name.encode()
    described = b"desc\0\0\0\0" + pack(">I", len(text) + 1) + text + b"\0" + b"\0" * 78
    tags = {
        b"desc": described,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        **{tag: xyz(*p) for tag, p in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)},
    }
    curve = b"curv\0\0\0\0" + pack(">IH", 1, round(gamma * 256))
    tags.update(dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))
    table, body = pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name + pack(">II", start + len(body), len(content))
        body += content
    head = pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + s15(0.9642) + s15(1.0) + s15(0.8249)
    return head.ljust(128, b"\0") + table + body


def grey_profile(gamma, name="grey"):
    return rgb_profile(gamma, name).replace(b"RGB ", b"GRAY", 1).replace(b"rTRC", b"kTRC", 1)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return Image.open(buffer)


def test_another_curve_becomes_srgb_as_the_formula_says(caplog):
    picture = blocks()
    with caplog.at_level(logging.INFO):
        found = np.asarray(upright(saved(picture, icc_profile=rgb_profile(1.0)))).astype(float)
    linear = np.asarray(picture) / 255.0
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(found - 255 * srgb).max() <= 1.5
    assert "colours converted from gamma to sRGB" in caplog.text


def test_a_wide_phone_photo_becomes_srgb_as_the_matrices_say(caplog):
    """Display P3's primaries; colours that sRGB has, so that nothing is clipped."""
    values = np.random.default_rng(5).integers(90, 166, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(values).resize((32, 32), Image.Resampling.NEAREST)
    profile = rgb_profile(2.2, "Display P3", P3_PRIMARIES)
    with caplog.at_level(logging.INFO):
        found = np.asarray(upright(saved(picture, icc_profile=profile))).astype(float)
    to_xyz, from_xyz = np.array(P3_PRIMARIES).T, np.linalg.inv(np.array(SRGB_PRIMARIES).T)
    linear = (np.asarray(picture) / 255.0) ** 2.2 @ to_xyz.T @ from_xyz.T
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(found - 255 * srgb).max() <= 2
    assert np.abs(found - np.asarray(picture)).max() > 8
    assert "colours converted from Display P3 to sRGB" in caplog.text


def test_a_linear_profile_with_srgb_in_its_name_is_converted(caplog):
    named, plain = (
        upright(saved(blocks(), icc_profile=rgb_profile(1.0, name)))
        for name in ("GIMP built-in Linear sRGB", "gamma")
    )
    assert named.tobytes() == plain.tobytes() != blocks().tobytes()
    near = rgb_profile(2.2, "sRGB IEC61966-2.1")
    assert upright(saved(blocks(), icc_profile=near)).tobytes() == blocks().tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "transparent L"])
@pytest.mark.parametrize("make", [grey_profile, rgb_profile])
def test_a_grey_picture_follows_its_profile_whatever_else_it_holds(mode, make, caplog):
    """As an editor saves grey with transparency, and phones a grey picture in an RGB space."""
    grey, options = blocks().convert("L"), {"icc_profile": make(1.0)}
    if mode == "transparent L":
        options["transparency"] = 0  # no pixel has it
    found = upright(saved(grey if "L" == mode[-1] else grey.convert(mode), **options))
    linear = np.asarray(grey) / 255.0
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(found)[..., 0] - 255 * srgb).max() <= 1.5
    assert "not used" not in caplog.text


def test_transparency_is_kept_through_a_grey_profile():
    picture = blocks().convert("LA")
    picture.putalpha(Image.new("L", picture.size, 0))
    assert np.asarray(upright(saved(picture, icc_profile=grey_profile(1.0)))).min() == 255


def test_a_grey_profile_with_srgb_in_its_name_is_judged_by_its_curve(caplog):
    grey = blocks().convert("L")
    near = grey_profile(2.2, "GIMP built-in D65 Grayscale with sRGB TRC")
    linear = grey_profile(1.0, "GIMP built-in D65 Linear Grayscale, sRGB white")
    same, other = (upright(saved(grey, icc_profile=profile)) for profile in (near, linear))
    assert same.tobytes() == grey.convert("RGB").tobytes() != other.tobytes()
    assert "not used" not in caplog.text


def test_a_grey_profile_takes_no_colour_away(caplog):
    assert upright(saved(blocks(), icc_profile=grey_profile(1.0))).tobytes() == blocks().tobytes()
    assert "dogs/a.jpg: its colour profile is not used" in caplog.text


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_damaged_exif_tags_are_told_and_the_picture_is_used(caplog, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    damaged = saved(blocks(), kind, exif=b"no tags", **options)
    assert upright(damaged).tobytes() == blocks().tobytes()
    assert "dogs/a.jpg: its EXIF tags cannot be read, it is not turned" in caplog.text


def test_an_srgb_profile_changes_no_byte():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert upright(saved(blocks(), icc_profile=profile)).tobytes() == blocks().tobytes()


def test_transparency_is_kept_through_a_profile_and_becomes_white():
    picture = blocks().convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 0))
    found = upright(saved(picture, icc_profile=rgb_profile(1.0)))
    assert np.asarray(found).min() == 255


@pytest.mark.parametrize("profile", [b"", b"nonsense", rgb_profile(1.8)[:200], b"\0" * 5000])
def test_a_broken_profile_is_told_and_not_used(caplog, profile):
    picture = blocks()
    picture.info["icc_profile"] = profile
    assert upright(picture).tobytes() == blocks().tobytes()
    if profile:
        assert "dogs/a.jpg: its colour profile is not used" in caplog.text


def test_cmyk_with_a_profile_of_another_kind_is_still_read(caplog):
    picture = blocks().convert("CMYK")
    plain = upright(picture).tobytes()
    picture.info["icc_profile"] = rgb_profile(1.0)
    assert upright(picture).tobytes() == plain and "is not used" in caplog.text


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_reduced_photo_is_turned_like_a_small_one(monkeypatch, turn):
    ramp = np.zeros((40, 80, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(80), 3 * np.arange(40)[:, None]
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = saved(Image.fromarray(ramp), exif=exif)
    whole = upright(stored)
    monkeypatch.setattr(module, "LARGEST", 800)
    small = upright(stored)
    assert small.width * small.height <= 800
    assert (small.width > small.height) == (whole.width > whole.height)
    expected = np.asarray(whole.resize(small.size, Image.Resampling.BOX), dtype=float)
    assert np.abs(np.asarray(small) - expected).mean() < 2


@pytest.mark.parametrize(
    ("mode", "levels", "expected"),
    [
        ("I", [0, 256, 65535, 70000, -5], [0, 1, 255, 255, 0]),
        ("I;16", [0, 255, 256, 65535], [0, 0, 1, 255]),
        ("F", [0.0, 0.5, 1.0], [0, 127, 255]),
        ("F", [0.0, 128.0, 300.0, np.nan], [0, 128, 255, 0]),
    ],
)
def test_more_than_8_bits_are_scaled_to_8(mode, levels, expected):
    kind = {"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]
    picture = Image.fromarray(np.array([levels], dtype=kind))
    assert picture.mode == mode
    assert np.asarray(upright(picture))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animated_file_the_first_picture_is_used_and_that_is_said(tmp_path, caplog, kind):
    path = tmp_path / f"a.{kind.lower()}"
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "white")]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], **options)
    with caplog.at_level(logging.INFO):
        image = read_photo(path, path.name).image
    assert image.getpixel((8, 8)) == (255, 0, 0)
    assert f"a.{kind.lower()} holds several pictures: the first is used" in caplog.text


def test_avif_is_read_where_pillow_can(tmp_path):
    if ".avif" in image_suffixes():
        blocks(64).save(tmp_path / "a.avif", quality=95)
        image = load_folder(tmp_path)[0].image
        assert np.abs(np.asarray(image) - np.asarray(blocks(64)).astype(int)).mean() < 8


def test_names_are_sorted_as_people_count():
    names = ["b.png", "10.png", "a10.png", "a2.png", "2.png", "A3.png", "x/1.png", "x/\u00e9 9.png"]
    assert sorted(names, key=natural_key) == [
        *("2.png", "10.png", "a2.png", "A3.png", "a10.png", "b.png", "x/1.png", "x/\u00e9 9.png")
    ]
    assert sorted(["\u0663.png", "1.png", "\u00b2.png"], key=natural_key)  # digits of all kinds
