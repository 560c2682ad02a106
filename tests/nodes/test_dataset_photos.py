"""Dataset Photos: photos, masks and captions of a dataset on the wires of any other node."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.photo import Photo

NODE = "AttnDBDatasetPhotos"


def photo(name: str, size: tuple[int, int], **more) -> Photo:
    rng = np.random.default_rng(len(name))
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Photo(name=name, image=Image.fromarray(pixels), **more)


def dataset(*photos: Photo, **more) -> ConceptDataset:
    return ConceptDataset(photos=photos, category="dog", placeholder="<my-dog>", **more)


def test_photos_masks_and_captions_are_those_of_the_dataset(run):
    half = Image.new("L", (40, 30), 0)
    half.paste(255, (0, 0, 20, 30))
    one = photo("one", (40, 30), mask=half, caption="a {} on grass")
    data = dataset(one, photo("second", (20, 60)), template="a photo of a {}\na rendering of a {}")
    photos, masks, captions = run(NODE, dataset=data)
    for given, image, mask in zip(data.photos, photos, masks, strict=True):
        assert torch.equal((image[0] * 255).round().byte(), torch.from_numpy(np.array(given.image)))
        assert mask.shape == image.shape[:3] and image.dtype == mask.dtype == torch.float32
    assert masks[0][0, :, :20].min() == 1 and masks[0][0, :, 20:].max() == 0
    assert masks[1].min() == 1
    assert captions == ["a {} on grass", "a photo of a {}"]


def test_large_photos_are_shrunk_with_their_masks_and_none_is_enlarged(run):
    mask = Image.new("L", (400, 200), 255)
    data = dataset(photo("large", (400, 200), mask=mask), photo("small", (30, 50)))
    photos, masks, _ = run(NODE, dataset=data, longest_side=100)
    assert [tuple(p.shape) for p in photos] == [(1, 50, 100, 3), (1, 50, 30, 3)]
    assert [tuple(m.shape) for m in masks] == [(1, 50, 100), (1, 50, 30)]
    assert data.photos[0].image.size == (400, 200)


def test_a_side_of_nothing_is_refused(run):
    with pytest.raises(Exception, match="Dataset Photos: longest_side = 0: use 64 or more"):
        run(NODE, dataset=dataset(photo("one", (40, 30))), longest_side=0)


def test_the_photos_of_a_folder_are_evaluated_without_a_second_loader(run):
    """What the lists are for: Score Images takes them as they are."""
    images, category, masks = run("AttnDBMicroConcept", concept="hatted-robot")
    data = run(
        "AttnDBConceptDatasetFromImages",
        **{"images": images, "masks": masks, "category": category, "placeholder": "<my-robot>"},
    )[0]
    photos, given_masks, _ = run(NODE, dataset=data)
    encoder = run("AttnDBLoadImageEncoder", encoder="toy model")[0]
    table = {}
    for name, wires in {
        "lists": {"photos": photos, "photo_masks": given_masks, "masks": given_masks},
        "batch": {"photos": images, "photo_masks": masks, "masks": masks},
    }.items():
        scored = run(
            "AttnDBScoreImages",
            **{"encoders": {"encoder_0": encoder}, "images": images, **wires},
        )
        table[name] = scored[0]
    assert table["lists"] == table["batch"]
