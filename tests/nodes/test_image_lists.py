"""Concept Dataset From Images: batches and lists, what is refused, what is warned of."""

from __future__ import annotations

import logging

import pytest
import torch
from support.stages import photos

IMAGES = "AttnDBConceptDatasetFromImages"
WORDS = {"category": "person", "placeholder": "<astro>"}


def names(data):
    return [photo.name for photo in data.photos]


def test_a_list_and_batches_of_several_sizes_are_one_dataset(run):
    batch, single = photos(2), photos(3)[2:, :40, :60]
    data, strip = run(IMAGES, images=[batch, single], category=["person"], placeholder=["<astro>"])
    assert names(data) == ["image 1", "image 2", "image 3"]
    assert [photo.image.size for photo in data.photos] == [(96, 96), (96, 96), (60, 40)]
    assert strip.shape == (1, 256, 768, 3)
    together = run(IMAGES, images=[batch, single], **WORDS)[0]
    assert together.digest == data.digest
    plain = run(IMAGES, images=photos(), **WORDS)[0]
    assert run(IMAGES, images=list(photos()[:, None]), **WORDS)[0].digest == plain.digest


def test_the_node_takes_lists_as_a_whole():
    from attndreambooth.nodes.dataset import ConceptDatasetFromImages
    from attndreambooth.nodes.prior import AddPriorImages

    assert ConceptDatasetFromImages.INPUT_IS_LIST and AddPriorImages.INPUT_IS_LIST


def test_prior_images_may_be_a_list_too(run):
    data = run(IMAGES, images=photos(), **WORDS)[0]
    others = photos().flip(1)
    batch = run("AttnDBAddPriorImages", dataset=data, images=others, prompt="a {}")[0]
    listed = run(
        "AttnDBAddPriorImages",
        dataset=[data],
        images=list(others[:, None]),
        prompt=["a {}"],
        weight=[1.0],
    )[0]
    assert listed.digest == batch.digest != data.digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"category": ["dog", "cat"]}, "category is a list ('dog', 'cat'): connect one value"),
        ({"images": []}, "the dataset holds no photo"),
        ({"images": torch.zeros(1, 8, 8, 2)}, "image 1 has the shape (8, 8, 2)"),
        ({"images": [photos(1), torch.full((1, 8, 8, 3), float("nan"))]}, "image 2 holds values"),
        ({"images": torch.zeros(1, 1, 200, 3)}, "image 1 is 200 x 1 px, a stripe"),
        ({"placeholder": "<" + "a" * 300 + ">"}, "has 302 characters, and 64 are the most"),
        ({"category": "d\nog"}, "category 'd\\nog' holds a line end"),
        ({"masks": torch.ones(2, 96, 96)}, "there are 2 masks and 3 photos"),
        ({"masks": torch.zeros(3, 64, 64)}, "is what Load Image gives for a picture without"),
        ({"captions": "a {}"}, "captions has 1 lines, and there are 3 photos"),
        ({"captions": ["a {}", 5]}, "is no text: connect text, one line an image"),
        ({"template": "a \udcfc {}"}, "template 'a \\udcfc {}' holds"),
    ],
)
def test_bad_images_and_words_are_named(run, changes, told):
    from attndreambooth.nodes.errors import NodeError

    with pytest.raises(NodeError) as caught:
        run(IMAGES, **{"images": photos(), **WORDS, **changes})
    assert told in str(caught.value)


def test_one_photo_is_used_with_a_warning(run, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(run(IMAGES, images=photos(1), **WORDS)[0].photos) == 1
    assert "one photo of <astro>" in caplog.text
    caplog.clear()
    run(IMAGES, images=photos(), **WORDS)
    assert caplog.text == ""


def test_photos_that_are_nearly_the_same_are_named(run, caplog):
    first = photos(1)[0]
    again = (first + 0.01 * torch.rand(first.shape)).clamp(0, 1)
    small = torch.nn.functional.interpolate(
        first.permute(2, 0, 1)[None], (60, 60), mode="bilinear", antialias=True
    )
    images = [photos(3), again[None], small.permute(0, 2, 3, 1)]
    with caplog.at_level(logging.WARNING):
        run(IMAGES, images=images, **WORDS)
    assert "image 1 and image 4 are nearly the same" in caplog.text
    assert "image 1 and image 5 are nearly the same" in caplog.text
    assert "2 of 5 photos are nearly the same as another" in caplog.text


def test_of_many_photos_the_strip_shows_the_first_and_the_count(run):
    many = torch.rand(30, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    assert run(IMAGES, images=many, **WORDS)[1].shape == (1, 256, 12 * 256, 3)


def test_without_a_placeholder_it_is_made_from_the_category(run):
    made = run(IMAGES, images=photos(), category="stuffed animal", placeholder=" ")[0]
    assert made.placeholder == "<my-stuffed-animal>"


def test_private_is_kept_through_prior_images_and_changes_no_digest(run):
    plain, hidden = (run(IMAGES, images=photos(), **WORDS, private=p)[0] for p in (False, True))
    assert (plain.private, hidden.private) == (False, True) and plain.digest == hidden.digest
    added = run("AttnDBAddPriorImages", dataset=hidden, images=photos().flip(1), prompt="a {}")[0]
    assert added.private


def test_captions_are_lines_or_a_list_one_for_each_image(run):
    lines = ["a {} in space", "", "a {} before a flag"]
    data = run(IMAGES, images=photos(), captions=["\n".join(lines)], **WORDS)[0]
    assert [photo.caption for photo in data.photos] == [lines[0], None, lines[2]]
    listed = run(IMAGES, images=photos(), captions=lines, **WORDS)[0]
    assert listed.digest == data.digest != run(IMAGES, images=photos(), **WORDS)[0].digest


def test_masks_are_a_batch_or_a_list_one_for_each_image(run):
    masks = torch.zeros(3, 96, 96)
    masks[:, 20:70, 30:60] = 1
    data = run(IMAGES, images=photos(), masks=masks, background_weight=[0.1], **WORDS)[0]
    assert data.masked and data.background == 0.1
    assert all(photo.mask.getbbox() == (30, 20, 60, 70) for photo in data.photos)
    listed = run(IMAGES, images=photos(), masks=list(masks), background_weight=0.1, **WORDS)[0]
    assert listed.digest == data.digest
    alone = run(IMAGES, images=photos(1), masks=[masks[0]], **WORDS)[0]
    assert alone.masked


def test_alpha_masks_are_masks_or_are_said_not_to_be_there(run):
    from support.stages import refuses

    clear, cut = torch.ones(3, 96, 96, 1), torch.zeros(3, 96, 96, 1)
    cut[:, 20:60, 20:60] = 1
    images = photos()
    seen = run(IMAGES, images=torch.cat([images, cut], -1), alpha_masks=True, **WORDS)[0]
    assert [photo.mask.getbbox() for photo in seen.photos] == [(20, 20, 60, 60)] * 3
    given = {"alpha_masks": True, **WORDS}
    for bare in (images, torch.cat([images, clear], -1)):
        with refuses("alpha_masks is on, and no image has a transparent part"):
            run(IMAGES, images=bare, **given)
    with refuses("the alpha channel of image 1 is empty"):
        run(IMAGES, images=torch.cat([images, 0 * cut], -1), **given)
    with refuses("alpha_masks is on, and masks are connected, too"):
        run(IMAGES, images=torch.cat([images, cut], -1), masks=cut[..., 0], **given)
