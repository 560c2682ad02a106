"""Going on from a concept: what was changed in between is said, not ignored."""

from __future__ import annotations

import dataclasses

import pytest
from support.stages import dataset, refuses


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_another_category_is_refused_with_both(sd15, run, train, chain, output, stage):
    data = dataset(run, category="fish")
    with refuses(rf"Stage {stage}.*category is 'fish'.*begun as 'person'"):
        train(stage, sd15, chain[0], dataset=data)
    assert not output.exists() or not list(output.rglob("*"))


def test_another_number_of_vectors_is_refused_with_both(sd15, train, chain):
    with refuses(r"Stage 1.*vectors is 3.*<astro> has 1: set vectors to 1"):
        train(1, sd15, chain[0], vectors=3)
    three = dataclasses.replace(chain[0], vectors=chain[0].vectors.repeat(3, 1))
    with refuses(r"vectors is 1, .*has 3: set vectors to 3"):
        train(1, sd15, three)


def test_the_same_words_go_on(sd15, run, train, chain):
    data = dataset(run, category="Person")
    assert len(train(1, sd15, chain[0], dataset=data, steps=0)[0].record["stages"]) == 2
    three = dataclasses.replace(chain[0], vectors=chain[0].vectors.repeat(3, 1))
    assert train(2, sd15, three, steps=0)[0].vectors.shape[0] == 3  # only stage 1 asks for vectors
