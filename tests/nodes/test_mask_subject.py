"""Mask Subject: masks from the model's own attention, for photos of any size."""

from __future__ import annotations

import pytest
import torch
from skimage.filters import threshold_otsu

from attndreambooth.attndb.attention.guided_filter import guided_filter
from attndreambooth.devkit.wires import Oracle

MASK = "AttnDBMaskSubject"


@pytest.fixture(scope="module")
def micro(run):
    """The embedded model's wires, and a concept's photos, category and true outlines."""
    with torch.inference_mode():
        wires = dict(zip(("model", "clip", "vae"), run("AttnDBLoadMicroModel"), strict=True))
        return wires, *run("AttnDBMicroConcept", concept="hatted-robot")


def overlap(mask, truth):
    found, wanted = mask[0] > 0.5, truth > 0.5
    return float((found & wanted).sum() / (found | wanted).sum())


def test_the_masks_lie_on_the_subject_and_on_nothing_else(run, micro):
    wires, photos, category, truth = micro
    [masks] = run(MASK, **wires, images=photos, category=category)
    found = [overlap(mask, true) for mask, true in zip(masks, truth, strict=True)]
    # whoever marks all of a photo, or the middle of it, gets less
    middle = torch.zeros_like(truth[0])
    middle[32:96, 32:96] = 1
    for least in (torch.ones_like(middle), middle):
        assert sum(found) > sum(overlap(least[None], true) for true in truth)
    assert sum(found) / len(found) > 0.75 and min(found) > 0.7
    again = run(MASK, **{n: [w] for n, w in wires.items()}, images=[photos], category=[category])
    assert all(torch.equal(a, b) for a, b in zip(masks, again[0], strict=True))


def test_a_mask_is_the_words_attention_spread_and_brought_to_the_edges(run, micro):
    """Again from the projections of the U-Net, with the whole matrix of self-attention."""
    wires, photos, category, _ = micro
    photo = photos[1:2]
    with Oracle(wires["model"]) as words, Oracle(wires["model"], "attn1") as places:
        [[mask]] = run(MASK, **wires, images=photo, category=category)
    column = 5  # start, a, photo, of, a
    looked = [
        seen[0][0, :, column]
        for name, [*seen] in words.weights.items()
        if name.startswith("output_blocks") and seen[0].shape[1] == 64
    ]
    near = [seen[0][0] for seen in places.weights.values() if seen[0].shape[1] == 64]
    assert len(looked) == 3 and len(near) == 5
    affinity = torch.stack(near).double().mean(dim=0)
    heat = torch.linalg.matrix_power(affinity, 2) @ torch.stack(looked).double().mean(dim=0)
    large = torch.nn.functional.interpolate(
        heat.reshape(1, 1, 8, 8), size=(128, 128), mode="bicubic"
    )[0, 0]
    edged = guided_filter(large.float(), photo[0], 16, 1e-3).numpy()
    wanted = torch.from_numpy(edged > threshold_otsu(edged))
    assert (wanted == (mask[0] > 0.5)).float().mean() > 0.998


def test_photos_of_several_sizes_get_masks_of_their_own(run, micro, caplog):
    wires, photos, category, _ = micro
    wide = torch.cat([photos[:1], photos[:1].flip(2)], dim=2)[:, :61, :100]
    [masks] = run(MASK, **wires, images=[photos[:1], wide], category=category)
    assert [mask.shape for mask in masks] == [(1, 128, 128), (1, 61, 100)]
    [grown] = run(MASK, **wires, images=photos[:1], category=category, grow=0.1)
    assert grown[0].sum() > masks[0].sum() and (grown[0] >= masks[0]).all()
    data = run(
        "AttnDBConceptDatasetFromImages",
        images=[photos[:1], wide],
        category=category,
        placeholder="<x>",
        masks=masks,
    )[0]
    assert [photo.mask.size for photo in data.photos] == [(128, 128), (100, 61)]


def test_the_models_on_the_wires_stay_as_they_are(run, micro):
    wires, photos, category, _ = micro
    before = {k: v.clone() for k, v in wires["model"].model.state_dict().items()}
    run(MASK, **wires, images=photos[:1], category=category)
    after = wires["model"].model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not wires["model"].wrappers


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"category": " "}, "category is empty"),
        ({"category": "a (dog)"}, "use plain words without brackets"),
        ({"images": []}, "there is no image"),
    ],
)
def test_what_cannot_be_looked_for_is_said(run, micro, changes, told):
    from attndreambooth.nodes.errors import NodeError

    wires, photos, category, _ = micro
    with pytest.raises(NodeError) as caught:
        run(MASK, **{**wires, "images": photos, "category": category, **changes})
    assert str(caught.value).startswith("Mask Subject: ") and told in str(caught.value)


def test_cancel_stops_it(run, micro):
    import comfy.model_management as management

    wires, photos, category, _ = micro
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        run(MASK, **wires, images=photos, category=category)


def test_a_category_that_is_a_word_of_the_prompt_is_looked_for_at_its_own_place(
    run, micro, monkeypatch
):
    """The prompt is `a photo of a photo`."""
    from attndreambooth.nodes.host.capture import subject_mask

    looked, plain = [], subject_mask.Capture

    def capture(**of):
        looked.extend(of["words"])
        return plain(**of)

    monkeypatch.setattr(subject_mask, "Capture", capture)
    wires, photos, _, _ = micro
    run(MASK, **wires, images=photos[:1], category="photo")
    assert [(word.label, word.columns) for word in looked] == [("photo#2", (5,))]


def test_a_mask_grows_by_a_square(run):
    from attndreambooth.nodes.host.capture.subject_mask import _grown

    mask = torch.zeros(1, 40, 60)
    mask[0, 10, 7] = mask[0, 20:24, 50:] = 1
    grown = _grown(mask, 0.1, (40, 60))
    wanted = torch.zeros(40, 60)
    wanted[6:15, 3:12] = wanted[16:28, 46:] = 1
    assert torch.equal(grown, wanted)
