"""What is said of photos before they are trained on, and when nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.likeness import alike
from attndreambooth.attndb.data.photo import Photo
from attndreambooth.attndb.data.photo_advice import alike_around, photo_advice, subject_share
from attndreambooth.attndb.data.sharpness import BLURRED, sharpness

SIDE = 96


def picture(seed=0, size=(128, 96), base=None):
    """Coloured blocks with some grain, another for every seed, on a ground of a colour."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 215, 3) if base is None else base
    pixels = np.full((size[1], size[0], 3), 0.0) + ground
    middle = pixels[size[1] // 4 : -size[1] // 4, size[0] // 4 : -size[0] // 4]
    middle[:] = np.kron(rng.uniform(0, 255, (8, 8, 3)), np.ones((12, 16, 1)))[
        : middle.shape[0], : middle.shape[1]
    ]
    grain = rng.normal(0, 6, pixels.shape)
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


def masked(image, box):
    mask = Image.new("L", image.size, 0)
    mask.paste(255, box)
    return mask


def advice(*photos, background=0.0, resolution=SIDE, aspect_buckets=False):
    sharp = [sharpness(photo, resolution) for photo in photos]
    dataset = ConceptDataset(photos, "dog", "<x>", background=background)
    return photo_advice(dataset, resolution, sharp, aspect_buckets)


def photos(count=3, **kind):
    return [Photo(f"{i}.png", picture(i, **kind)) for i in range(count)]


def test_good_photos_are_left_in_peace():
    assert advice(*photos()) == []


def test_one_photo_is_named():
    [line] = advice(*photos(1))
    assert line.startswith("one photo: what surrounds the subject in it is learned as well")


def test_photos_smaller_than_the_crops_are_named():
    [line] = advice(*photos(2), Photo("tiny.png", picture(7, (90, 70))))
    assert "smaller than the crops of 96 px" in line and "tiny.png" in line and "0.png" not in line


def test_a_photo_that_fills_its_bucket_is_not_too_small():
    """640 x 480 is cut as 576 x 448 where 512 is asked for: nothing is enlarged."""
    shots = [Photo(f"{i}.png", picture(i).resize((640, 480))) for i in range(3)]
    assert "smaller" in advice(*shots, resolution=512)[0]
    assert not any("smaller" in x for x in advice(*shots, resolution=512, aspect_buckets=True))
    shots = [Photo(f"{i}.png", picture(i).resize((560, 420))) for i in range(3)]
    assert "smaller" in advice(*shots, resolution=512, aspect_buckets=True)[0]


def test_a_blurred_photo_is_named():
    soft = Photo("soft.png", picture(7).filter(ImageFilter.GaussianBlur(2)))
    [line] = advice(*photos(2), soft)
    assert line.startswith("blurred, or without any detail: soft.png;")


def test_a_small_subject_is_named_where_a_mask_says_so():
    images = [picture(i) for i in range(3)]
    boxes = [(30, 20, 90, 80), (30, 20, 40, 30), (30, 20, 90, 80)]
    given = [
        Photo(f"{i}.png", image, mask=masked(image, box))
        for i, (image, box) in enumerate(zip(images, boxes, strict=True))
    ]
    [line] = advice(*given)
    assert line == (
        "the subject is small, under 6% of a crop: 1.png; cut these photos closer around it"
    )
    assert subject_share(given[1]) == pytest.approx(100 / 96**2)
    assert subject_share(Photo("bare", images[0])) == 0


def test_surroundings_that_are_alike_are_named_unless_a_mask_takes_them_out():
    same = photos(base=np.array([90, 120, 60]))
    assert alike_around(same) and not alike_around(photos())
    [line] = advice(*same)
    assert "the surroundings look alike on all 3 photos" in line
    with_masks = [Photo(p.name, p.image, mask=masked(p.image, (32, 24, 96, 72))) for p in same]
    assert advice(*with_masks) == []
    assert "look alike" in advice(*with_masks, background=0.2)[0]
    assert not alike_around(same[:1])
    whole = [Photo(p.name, p.image, mask=masked(p.image, (0, 0, 128, 96))) for p in same]
    assert not alike_around(whole), "there is nothing around it"


def test_photos_that_are_nearly_the_same_are_named_in_pairs_up_to_five():
    image = picture(0)
    copies = [Photo(f"{i}.png", image) for i in range(8)]
    told = [line for line in advice(*copies) if "nearly the same" in line]
    assert told[0].startswith("0.png and 1.png are nearly the same picture")
    assert len(told) == 6 and told[-1].startswith("2 more photos")


def test_small_things_on_white_are_told_apart():
    """Most of such photos is white, and white is like white."""

    def shot(turn, size=(256, 256)):
        image = Image.new("RGB", (256, 256), "white")
        parts = np.uint8([[(150, 110, 70), (180, 90, 60)], [(210, 160, 120), (255, 255, 255)]])
        toy = Image.fromarray(parts).resize((80, 80), Image.Resampling.NEAREST).rotate(turn)
        image.paste(toy, (88, 88))
        return image.resize(size)

    views = [Photo(f"{turn}.png", shot(turn)) for turn in (0, 90, 180, 270)]
    assert alike(views) == []
    again = Photo("again.png", shot(90, (200, 200)))
    assert alike([*views, again]) == [("90.png", "again.png")]


def test_many_names_are_counted():
    [line] = [x for x in advice(*photos(9), resolution=128) if x.startswith("smaller")]
    assert "4.png and 4 more;" in line and "5.png" not in line


def test_names_from_elsewhere_are_made_printable():
    [line] = advice(*photos(2), Photo("a\n\x1b[31m.png", picture(7, (90, 70))))
    assert "\n" not in line and "\x1b" not in line


def slow_sharpness(grey, covered):
    """Pixel by pixel: the variance of the four neighbours minus four times the middle."""
    found = []
    for y in range(1, grey.shape[0] - 1):
        for x in range(1, grey.shape[1] - 1):
            if covered[y, x]:
                four = grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1]
                found.append(four - 4 * grey[y, x])
    mean = sum(found) / len(found)
    return sum((value - mean) ** 2 for value in found) / len(found)


def test_sharpness_is_the_variance_of_the_laplacian_over_the_subject():
    image = picture(1, (40, 30))
    mask = masked(image, (5, 5, 25, 20))
    grey = np.asarray(image.convert("L")).astype(float)
    everywhere = np.ones(grey.shape, dtype=bool)
    assert sharpness(Photo("a", image), 30) == pytest.approx(slow_sharpness(grey, everywhere))
    expected = slow_sharpness(grey, np.asarray(mask) > 127)
    assert sharpness(Photo("a", image, mask=mask), 30) == pytest.approx(expected)


def test_sharpness_is_measured_at_the_size_of_the_crops():
    large = picture(2).resize((1024, 768), Image.Resampling.BICUBIC)
    assert sharpness(Photo("a", large), 768) < BLURRED < sharpness(Photo("a", large), 96)
    assert sharpness(Photo("a", Image.new("RGB", (2, 9))), 96) == 0
    assert sharpness(Photo("a", Image.new("RGB", (64, 64), "gray")), 64) == 0
