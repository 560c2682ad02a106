"""Masks: where they come from, what is wrong with some, and that they move with their photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.data.augmentation import Crop, draw_crop
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.folder import load_folder
from attndreambooth.attndb.data.latent_source import LatentSource
from attndreambooth.attndb.data.mask import with_masks
from attndreambooth.attndb.data.photo import DatasetError, Photo
from attndreambooth.attndb.data.photo_file import photos_from_arrays
from attndreambooth.attndb.data.scan import scan


def square(width=90, height=60):
    """A mask: white from (30, 20) to (60, 50)."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (width // 3, height // 3, 2 * width // 3, 5 * height // 6))
    return mask


def save(folder, *names, masks=()):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 60), (70 * number, 0, 99)).save(folder / name)
    for name in masks:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        square().save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("dog.png", "dog_mask.png"),
        ("dog.jpg", "dog_MASK.webp"),
        ("dog.png", "dog-masklabel.png"),
        ("dog.png", "masks/dog.png"),
        ("dog.png", "Masks/dog_mask.png"),
        ("sub/dog.png", "sub/masks/dog.png"),
        ("sub/dog.png", "masks/sub/dog.jpg"),
        ("Dog.JPG", "dog_mask.png"),
        ("sub/DOG.png", "Sub/masks/dog.png"),
        ("cafe\u0301.png", "caf\u00e9_mask.png"),  # as macOS writes it, and as others do
        ("caf\u00e9.png", "masks/CAFE\u0301.png"),
    ],
)
def test_a_mask_is_found_by_its_name(tmp_path, photo, mask):
    folder = save(tmp_path, photo, masks=[mask])
    listing = scan(folder)
    assert listing.masks == {folder / photo: folder / mask} and len(listing.images) == 1
    [found] = load_folder(folder, masks="files")
    assert found.mask is not None and found.mask.size == (90, 60)
    assert found.mask.getpixel((45, 40)) > 250 and found.mask.getpixel((5, 5)) < 5
    with pytest.raises(DatasetError, match=r"is the mask of .*: set masks to 'files' to use it"):
        load_folder(folder)


def test_a_mask_that_could_be_of_two_photos_is_of_the_one_of_its_very_name(tmp_path):
    folder = save(tmp_path, "Dog.png", "dog.png", masks=["dog_mask.png"])
    if len(list(folder.glob("*.png"))) < 3:
        pytest.skip("one name here")
    assert scan(folder).masks == {folder / "dog.png": folder / "dog_mask.png"}
    (folder / "dog_mask.png").rename(folder / "DOG_mask.png")
    assert scan(folder).masks == {}


def test_photos_that_are_only_called_masks_stay_photos(tmp_path):
    folder = save(tmp_path, "masks/venice.png", "carnival_mask.png", "_mask.png")
    assert len(load_folder(folder)) == 3
    with pytest.raises(DatasetError, match=r"masks is 'files', and .* holds none: put dog_mask"):
        load_folder(folder, masks="files")


@pytest.mark.parametrize("gone", ["masks/c.png", "c_mask.png", "a.png_mask.png"])
def test_a_mask_whose_photo_is_gone_is_no_photo(tmp_path, gone, caplog):
    """It was trained on, as a black and white picture of the subject."""
    folder = save(tmp_path, "a.png", "b.png", masks=["a_mask.png", "b_mask.png", gone])
    told = f"{gone} is named as a mask, and no photo has its name"
    with pytest.raises(DatasetError, match=told):
        load_folder(folder, masks="files")
    photos = load_folder(folder, masks="files", skip_broken=True)
    assert [photo.name for photo in photos] == ["a.png", "b.png"] and told in caplog.text
    for name in ("a_mask.png", "b_mask.png"):
        (folder / name).unlink()
    with pytest.raises(DatasetError, match=told):
        load_folder(folder)  # masks are not asked for: it looks like one


def test_a_photo_that_is_called_a_mask_may_have_one(tmp_path):
    folder = save(tmp_path, "carnival_mask.png", masks=["carnival_mask_mask.png"])
    [photo] = load_folder(folder, masks="files")
    assert photo.name == "carnival_mask.png" and photo.mask is not None


def test_a_photo_without_a_mask_counts_whole_and_is_named(tmp_path, caplog):
    folder = save(tmp_path, "a.png", "b.png", masks=["a_mask.png"])
    one, other = load_folder(folder, masks="files")
    assert one.mask is not None and other.mask is None
    assert "no mask for b.png: all of it counts" in caplog.text


def test_the_alpha_channel_is_a_mask_when_asked_for(tmp_path):
    picture = Image.new("RGB", (90, 60), (200, 30, 30))
    picture.putalpha(square())
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    picture.convert("RGB").save(tmp_path / "b.png")
    one, other = load_folder(tmp_path, masks="alpha")
    assert one.image.size == one.mask.size == (60, 90) and other.mask is None
    covered = np.asarray(one.mask) > 127
    assert (np.asarray(one.image)[covered] == (200, 30, 30)).all()
    assert (np.asarray(one.image)[~covered] == 255).all()
    assert load_folder(tmp_path)[0].mask is None
    (tmp_path / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"masks is 'alpha', and no photo .* transparent"):
        load_folder(tmp_path, masks="alpha")


def test_a_fourth_channel_on_a_wire_is_a_mask_when_asked_for():
    picture = np.ones((60, 90, 4)) * 0.5
    picture[..., 3] = np.asarray(square()) / 255
    assert photos_from_arrays([picture])[0].mask is None
    [photo] = photos_from_arrays([picture], alpha=True)
    assert photo.mask.tobytes() == square().tobytes()
    assert photos_from_arrays([picture[..., :3]], alpha=True)[0].mask is None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Image.new("L", (90, 90), 255), "a_mask.png is 90 x 90 px, and its photo a.png 90"),
        (lambda: Image.new("L", (90, 60), 0), "a_mask.png is empty: it shows no subject"),
        (lambda: Image.new("RGBA", (45, 30), 0), "a_mask.png is empty"),
        (None, "a_mask.png is not an image that can be read"),
    ],
)
def test_a_mask_that_cannot_be_one_is_named_or_skipped(tmp_path, make, told, caplog):
    folder = save(tmp_path, "a.png", "b.png", masks=["b_mask.png"])
    if make is None:
        (folder / "a_mask.png").write_bytes(b"no picture")
    else:
        make().save(folder / "a_mask.png")
    with pytest.raises(DatasetError) as caught:
        load_folder(folder, masks="files")
    assert told in str(caught.value)
    one, other = load_folder(folder, masks="files", skip_broken=True)
    assert one.mask is None and other.mask is not None
    assert f"skipped: {told}" in caplog.text


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "I;16", "RGBA"])
def test_a_mask_of_any_mode_and_scale_is_read(tmp_path, mode):
    folder = save(tmp_path, "a.png")
    mask = square(180, 120)
    if mode == "I;16":
        mask = Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
    elif mode == "RGBA":  # a subject cut out
        cut, mask = mask, Image.new("RGB", mask.size, (10, 0, 0))
        mask.putalpha(cut)
    else:
        mask = mask.convert(mode)
    mask.save(folder / "a_mask.png")
    [photo] = load_folder(folder, masks="files")
    assert photo.mask.mode == "L" and photo.mask.size == (90, 60)
    assert photo.mask.getpixel((45, 35)) > 250 and photo.mask.getpixel((10, 10)) < 5


def arrays(count=3):
    return [np.full((60, 90, 3), 0.1 * i) for i in range(count)]


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ([np.ones((60, 90))] * 2, "there are 2 masks and 3 photos: give one mask for each photo"),
        ([np.ones((60, 90))] * 4, "there are 4 masks and 3 photos"),
        ([np.ones((60, 90)), np.zeros((60, 90)), np.ones((60, 90))], "mask 2 is empty"),
        ([np.ones((60, 60))] * 3, "mask 1 is 60 x 60 px, and its photo image 1 90 x 60"),
        ([np.zeros((64, 64))] * 3, "mask 1 is what Load Image gives for a picture without an"),
        ([np.full((60, 90), np.nan)] * 3, "mask 1 has the shape (60, 90) or values that are no"),
        ([np.ones((60, 90, 3))] * 3, "mask 1 has the shape (60, 90, 3)"),
    ],
)
def test_masks_on_a_wire_that_do_not_fit_are_named(masks, told):
    with pytest.raises(DatasetError) as caught:
        with_masks(photos_from_arrays(arrays()), masks)
    assert str(caught.value).startswith(told)


def test_masks_and_what_the_background_counts_are_part_of_a_dataset_s_digest():
    plain = photos_from_arrays(arrays())
    mask, whole = np.asarray(square()) / 255.0, np.ones((60, 90))
    known = {
        ConceptDataset(photos, "dog", "<x>", background=background).digest
        for photos in (with_masks(plain, [mask] * 3), with_masks(plain, [mask, mask, whole]))
        for background in (0.0, 0.5)
    }
    bare = ConceptDataset(plain, "dog", "<x>")
    assert len(known | {bare.digest}) == 5
    assert ConceptDataset(plain, "dog", "<x>", background=0.5).digest == bare.digest
    with pytest.raises(DatasetError, match=r"background_weight = 1\.5: use 0"):
        ConceptDataset(plain, "dog", "<x>", background=1.5)


@pytest.mark.parametrize("scale", [1, 4])
def test_a_mask_moves_with_its_photo(scale):
    """The subject is the white part of the photo, also where the photo is large."""
    mask = square(120 * scale, 90 * scale)
    photo = Photo("a", Image.merge("RGB", [mask] * 3), mask=mask)
    source = LatentSource(lambda pixels: pixels[:, ::8, ::8].movedim(-1, 1), 64, masked=True)
    generator = torch.Generator().manual_seed(0)
    crops = [draw_crop("reference", generator) for _ in range(12)]
    assert any(crop.angle for crop in crops) and any(crop.flip for crop in crops)
    for crop in [*crops, Crop()]:
        rendered = source.render(photo, crop)
        bright = rendered.pixels[..., 0].astype(int)
        apart = np.abs(bright - rendered.subject.astype(int))
        assert apart.mean() < 3 and np.quantile(apart, 0.9) < 16
        assert (rendered.subject[~rendered.mask] < 128).all()


def test_two_photos_of_the_same_pixels_keep_their_own_masks():
    image = Image.new("RGB", (64, 64), "gray")
    left, right = (Image.new("L", (64, 64), 0) for _ in range(2))
    left.paste(255, (0, 0, 32, 64))
    right.paste(255, (32, 0, 64, 64))
    photos = [Photo("a", image, mask=left), Photo("b", image, mask=right)]
    assert photos[0].digest == photos[1].digest and photos[0].key != photos[1].key
