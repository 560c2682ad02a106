"""The demo nodes: photos of a subject in two sets, and what an old workflow hears."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.micro.concepts import CONCEPTS

PHOTOS = "AttnDBMicroConcept"


@pytest.fixture(scope="module")
def node(host):
    from attndreambooth.nodes.micro import MicroConcept

    return MicroConcept


def test_the_photos_come_with_their_true_outlines(run):
    images, category, masks = run(PHOTOS, concept="hatted-robot")
    assert images.shape == (5, 128, 128, 3) and masks.shape == (5, 128, 128)
    assert category == "robot" and 0.05 < float(masks.mean()) < 0.5
    true = [drawn for drawn, _ in CONCEPTS["hatted-robot"].photos()]
    assert torch.equal((images[2] * 255).round().to(torch.uint8), torch.from_numpy(true[2].picture))
    assert torch.equal(masks[2] > 0.5, torch.from_numpy(true[2].mask))


def test_the_other_set_was_taken_in_two_places(run):
    five, two = (
        run(PHOTOS, concept="royal-cat", photo_set=s)[0] for s in ("five places", "two places")
    )
    assert five.shape == two.shape and not torch.equal(five, two)


def test_a_subject_of_the_first_version_is_answered_with_what_to_do(node):
    assert node.validate_inputs("hatted-robot") is True
    said = node.validate_inputs("hat-robot")
    for word in ("hat-robot", "hatted-robot", "128 x 128", "CFG to 3"):
        assert word in said
