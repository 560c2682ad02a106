"""Photos are read upright and sorted; what cannot be used is named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.folder import load_folder
from attndreambooth.attndb.data.photo import DatasetError
from attndreambooth.attndb.data.photo_file import photos_from_arrays, read_photo
from attndreambooth.attndb.data.upright import upright

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_halves(width=40, height=20):
    """Left half red, right half blue."""
    picture = Image.new("RGB", (width, height), BLUE)
    picture.paste(Image.new("RGB", (width // 2, height), RED), (0, 0))
    return picture


def corners(picture):
    """Names of the colours at the four corners: top left, top right, bottom right, bottom left."""
    w, h = picture.size
    at = [(1, 1), (w - 2, 1), (w - 2, h - 2), (1, h - 2)]
    return "".join("r" if picture.getpixel(p)[0] > 128 else "b" for p in at)


@pytest.mark.parametrize(
    ("orientation", "size", "colours"),
    [
        (1, (40, 20), "rbbr"),
        (2, (40, 20), "brrb"),
        (3, (40, 20), "brrb"),
        (6, (20, 40), "rrbb"),
        (8, (20, 40), "bbrr"),
    ],
)
def test_a_photo_is_turned_as_its_exif_tag_asks(tmp_path, orientation, size, colours):
    exif = Image.Exif()
    exif[0x0112] = orientation
    two_halves().save(tmp_path / "a.jpg", exif=exif, quality=95)
    photo = read_photo(tmp_path / "a.jpg", "a.jpg")
    assert (photo.image.size, photo.image.mode) == (size, "RGB")
    assert corners(photo.image) == colours


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(tmp_path, mode):
    picture = two_halves().convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 0))
    picture = picture.quantize() if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a.png")
    image = read_photo(tmp_path / "a.png", "a.png").image
    assert image.mode == "RGB"
    assert np.asarray(image).min() >= 254


def test_half_transparency_is_blended():
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(int(np.asarray(upright(picture, "a.png"))[0, 0, 0]) - 127) <= 1


def test_a_16_bit_photo_keeps_its_tones(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(8, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    tones = np.asarray(read_photo(tmp_path / "a.png", "a.png").image)[0, :, 0].astype(int)
    assert np.abs(tones - np.arange(256)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    name = "a.tif" if mode == "CMYK" else "a.png"
    two_halves().convert(mode).save(tmp_path / name)
    image = read_photo(tmp_path / name, name).image
    assert image.mode == "RGB" and image.size == (40, 20)
    assert len(image.getcolors()) == 2


def test_a_folder_is_read_sorted_with_its_sub_folders_and_without_hidden_files(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.webp", "10.png", "2.png", ".hidden.png", ".git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        two_halves().save(path)
    (tmp_path / "Thumbs.db").write_bytes(b"clutter")
    assert [p.name for p in load_folder(tmp_path)] == [
        "2.png",
        "10.png",
        "a.JPG",
        "b.png",
        "sub/c.webp",
    ]


def test_a_file_that_is_no_image_is_named_or_passed_over_on_request(tmp_path):
    two_halves().save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("captions")
    (tmp_path / "b.raw").write_bytes(b"not for PIL")
    with pytest.raises(DatasetError, match=r"b\.raw is not an image; notes\.txt.*skip_broken"):
        load_folder(tmp_path)
    assert [p.name for p in load_folder(tmp_path, skip_broken=True)] == ["a.png"]


def broken_files(folder):
    two_halves().save(folder / "good.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("this is not a picture")
    whole = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])


def test_broken_files_are_all_named_with_the_remedy(tmp_path):
    broken_files(tmp_path)
    with pytest.raises(DatasetError) as error:
        load_folder(tmp_path)
    for part in (
        "empty.jpg is empty",
        "text.png is not an image",
        "cut.png is broken",
        "skip_broken",
    ):
        assert part in str(error.value)
    assert "good.png" not in str(error.value)


def test_the_rest_is_used_only_when_asked_for(tmp_path, caplog):
    broken_files(tmp_path)
    with caplog.at_level(logging.WARNING):
        photos = load_folder(tmp_path, skip_broken=True)
    assert [photo.name for photo in photos] == ["good.png"]
    assert all(name in caplog.text for name in ("empty.jpg", "text.png", "cut.png"))


def test_a_folder_of_broken_files_alone_is_refused_even_then(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"no photo of .*empty\.jpg"):
        load_folder(tmp_path, skip_broken=True)


def test_missing_and_empty_folders_are_refused_by_name(tmp_path):
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"holds no image \(.*\.png.*put the photos there"):
        load_folder(tmp_path)
    (tmp_path / "file.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match="is a file: give the folder"):
        load_folder(tmp_path / "file.png")


def photos():
    return photos_from_arrays([np.zeros((8, 8, 3)), np.ones((8, 8, 3))])


@pytest.mark.parametrize("category", ["", "  ", "a:b", "(dog)", "dog ", "<dog>", "a\\b"])
def test_a_bad_category_is_refused(category):
    with pytest.raises(DatasetError, match="category"):
        ConceptDataset(photos(), category)


@pytest.mark.parametrize(
    "placeholder", ["", "my dog", "a:b", "(x)", "a,b", "{x}", "DOG", "x1" * 150]
)
def test_a_bad_placeholder_is_refused(placeholder):
    with pytest.raises(DatasetError, match="placeholder"):
        ConceptDataset(photos(), "stuffed dog", placeholder)


@pytest.mark.parametrize("template", ["", "a photo", "{} and {}"])
def test_a_template_needs_its_place_exactly_once(template):
    with pytest.raises(DatasetError, match=r"template .* needs \{\} exactly once"):
        ConceptDataset(photos(), "dog", template=template)


def test_no_photo_is_refused():
    with pytest.raises(DatasetError, match="holds no photo"):
        ConceptDataset((), "dog")


def test_the_prompt_names_placeholder_and_category():
    data = ConceptDataset(photos(), "stuffed animal", "<x>", "a {} in the rain")
    assert data.prompt == "a <x> stuffed animal in the rain"


def test_the_digest_knows_every_pixel_and_word():
    base = ConceptDataset(photos(), "dog", "<x>")
    others = [
        ConceptDataset(photos()[::-1], "dog", "<x>"),
        ConceptDataset(photos(), "cat", "<x>"),
        ConceptDataset(photos(), "dog", "<y>"),
        ConceptDataset(photos(), "dog", "<x>", "a {}"),
        ConceptDataset(
            photos_from_arrays([np.zeros((8, 8, 3)), np.eye(8)[..., None] + np.zeros(3)]),
            "dog",
            "<x>",
        ),
    ]
    assert len({data.digest for data in [base, *others]}) == 6
    assert ConceptDataset(photos(), "dog", "<x>").digest == base.digest


def test_arrays_keep_their_values_and_their_order():
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3))
    found = photos_from_arrays([array / 255.0, np.full((4, 4, 4), [1.0, 0.0, 0.0, 0.0])])
    assert [photo.name for photo in found] == ["image 1", "image 2"]
    assert np.array_equal(np.asarray(found[0].image), array)
    assert found[1].image.getpixel((0, 0)) == (255, 255, 255)
