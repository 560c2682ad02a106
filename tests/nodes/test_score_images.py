"""Score Images: pictures from anywhere are scored, the errors say why."""

from __future__ import annotations

import pytest
import torch
from support.stages import refuses

SCORE = "AttnDBScoreImages"


def scored(run, encoder, photos, **changes):
    values = {"images": photos[0][:2], "photos": photos[0], **changes}
    return run(SCORE, encoders={"encoder_0": encoder}, **values)


def test_a_photo_is_most_like_itself(run, encoder, photos):
    table, (row,), identity, text = scored(run, encoder, photos, label="photos")
    assert row.value("best photo") == pytest.approx(1.0, abs=1e-5)
    assert identity == row.value("identity") < 1.0 and text == 0.0
    assert "| photos | 2 |" in table and "text" not in table


def test_distractors_and_masks_of_any_pictures(run, encoder, photos):
    others = run("AttnDBMicroConcept", concept="horned-car")[0]
    _, (row,), *_ = scored(
        run, encoder, photos, distractors=others, masks=photos[2][:2], photo_masks=photos[2]
    )
    assert row.value("present") == 1.0
    assert row.value("foreground") is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": []}, "Score Images: there is no image to score"),
        ({"prompt": "a {} in the snow"}, "category is empty"),
        ({"prompt": "a\nb\nc", "category": "robot"}, "prompt has 3 lines for 2 images"),
        ({"masks": torch.ones(2, 64, 64)}, "masks and photo_masks belong together"),
        ({"masks": torch.ones(3, 64, 64)}, "3 masks for 2 images"),
    ],
)
def test_what_cannot_be_scored_is_refused(run, encoder, photos, changes, said):
    with refuses(said):
        scored(run, encoder, photos, **changes)
