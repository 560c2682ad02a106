"""A concept is recognised by how it began, through every later stage and every file."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.lineage import check_not_another, lineage
from attndreambooth.attndb.artifacts.manager_metadata import without_photos

RECORD = {
    "base_sha256": "b",
    "prompt": "a photo of a <x> dog",
    "tied_token_id": 1929,
    "photos": [{"name": f"{n}.png", "sha256": str(n)} for n in range(4)],
    "stages": [{"stage": 1, "seed": 0, "losses": [[0.1, 1 / 3]]}],
}


def concept(**changes) -> TrainedConcept:
    fields = {
        "placeholder": "<x>",
        "category": "dog",
        "text_key": "clip_l",
        "vectors": torch.ones(1, 4),
        "record": RECORD,
    }
    return TrainedConcept(**{**fields, **changes})


def test_a_later_stage_and_a_file_keep_the_lineage():
    first = concept()
    later = first.with_stage(torch.zeros(1, 4), {"w": torch.ones(2)}, {"stage": 2})
    as_file = concept(record=json.loads(json.dumps(later.record)))
    assert lineage(first) == lineage(later) == lineage(as_file)


@pytest.mark.parametrize(
    "change",
    [
        {"stages": [{**RECORD["stages"][0], "seed": 1}]},
        {"stages": [{**RECORD["stages"][0], "losses": [[0.1, 0.3333]]}]},
        {"photos": RECORD["photos"][:3]},
        {"base_sha256": "c"},
        {"prompt": "a <x> dog"},
    ],
)
def test_another_beginning_is_another_concept_and_both_are_named(change):
    one, other = lineage(concept()), lineage(concept(record={**RECORD, **change}))
    assert one.key != other.key
    with pytest.raises(ValueError, match=r"MODEL already has.*'<x>' \(dog; photos '0\.png'.*'<x>'"):
        check_not_another(one, other, "MODEL")
    check_not_another(one, one, "MODEL")


@pytest.mark.parametrize("photos", [5, True, "a.png", {"name": "a"}, [5, None]])
def test_photos_of_a_record_from_elsewhere_may_be_anything(photos):
    assert lineage(concept(record={**RECORD, "photos": photos})).label.startswith("'<x>' (dog; ")


def test_other_placeholders_never_clash_and_case_does_not_part_them():
    other = concept(record={**RECORD, "base_sha256": "c"})
    check_not_another(
        lineage(concept()), lineage(dataclasses.replace(other, placeholder="<y>")), "MODEL"
    )
    with pytest.raises(ValueError, match=r"'<x>'.*'<X>'"):
        check_not_another(
            lineage(concept()), lineage(dataclasses.replace(other, placeholder="<X>")), "MODEL"
        )


def test_without_a_record_the_vectors_are_the_beginning():
    bare = concept(record={})
    assert lineage(bare) == lineage(concept(record={}))
    assert lineage(bare).key != lineage(concept(record={}, vectors=torch.zeros(1, 4))).key


def test_without_its_photos_a_record_is_still_of_the_same_beginning():
    bare = without_photos(concept())
    assert not {"photos", "thumbnail"} & set(bare.record)
    later = bare.with_stage(torch.zeros(1, 4), {}, {"stage": 2})
    assert lineage(bare) == lineage(without_photos(later))
    assert lineage(bare).key == lineage(later).key == lineage(concept()).key
    assert lineage(concept(record={**RECORD, "lineage": 5})) == lineage(concept())


def test_odd_names_of_photos_do_no_harm_to_the_message():
    odd = concept(record={**RECORD, "photos": [{"name": "a\n\udcff.png"}, "no dict"]})
    assert lineage(odd).label.isprintable()
