"""A concept file that cannot be right is refused by name, with the value and a remedy."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from attndreambooth.attndb.artifacts.concept import ConceptFileError, TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import (
    RECORD_KEY,
    concept_files,
    load_concept,
    read_record,
)
from attndreambooth.attndb.artifacts.tensor_file import read_metadata, read_tensors, write_whole
from attndreambooth.attndb.artifacts.weight_delta import LowRank, dense


def concept(**changes):
    fields = {
        "placeholder": "<x>",
        "category": "stuffed animal",
        "text_key": "clip_l",
        "vectors": torch.ones(2, 8),
        "delta": {"out.2.weight": torch.ones(3, 4)},
        "base_family": "SD 1.5",
        "record": {"stages": [{"stage": 1}]},
    }
    return TrainedConcept(**{**fields, **changes})


def save(folder, made):
    embedding, weights = folder / "e.safetensors", folder / "w.safetensors"
    write_whole(concept_files(made, "x", embedding, weights))
    return embedding, weights


def refused(embedding, weights, *told):
    with pytest.raises(ConceptFileError) as error:
        load_concept(embedding, weights)
    for text in (".safetensors", *told):
        assert text in str(error.value)
    assert any(word in str(error.value) for word in ("restore", "again", "update", "remove"))


BAD_VALUES = [
    ({"vectors": torch.full((2, 8), torch.nan)}, "NaN or infinite"),
    ({"vectors": torch.tensor([[1.0, torch.inf]])}, "NaN or infinite"),
    ({"vectors": torch.tensor([[1.0, 2.0], [0.0, 0.0]])}, "zero vector"),
    ({"vectors": torch.zeros(0, 8)}, "zero vector"),
    ({"vectors": torch.zeros(1, 0)}, "zero vector"),
    ({"delta": {"out.2.weight": torch.full((3, 4), -torch.inf)}}, "out.2.weight holds NaN"),
    ({"delta": {"out.2.bias": torch.ones(3, dtype=torch.int8)}}, "out.2.bias holds torch.int8"),
    (
        {"delta": {"o.weight": LowRank(torch.ones(3, 2), torch.full((2, 4), torch.nan), (3, 4))}},
        "o.weight:down holds NaN",
    ),
]


@pytest.mark.parametrize(("changes", "told"), BAD_VALUES)
def test_values_that_no_training_gives_are_refused(tmp_path, changes, told):
    refused(*save(tmp_path, concept(**changes)), told)


def with_record(folder, text):
    path = folder / "e.safetensors"
    save_file({"clip_l": torch.ones(1, 8)}, path, {RECORD_KEY: text})
    return path


GOOD = {
    "format": 1,
    "placeholder": "<x>",
    "category": "dog",
    "base_family": "SD 1.5",
    "digest": "00",
    "has_weights": False,
}
BAD_FIELDS = [
    *(("category", value) for value in (5, [], None, "", "  ", "a\nb", "dog ", "a{}b", "x" * 300)),
    *(("placeholder", value) for value in (5, [], None, "", " ", "a b", "a\n", "(", "x" * 300)),
    *(("placeholder", value) for value in ("\ud800", "\x1b[31m", ".*\\", "a\u202eb")),
    *(("digest", value) for value in (5, None)),
    *(("base_family", value) for value in (5, None, {})),
    *(("has_weights", value) for value in (1, "true", None)),
    *(("format", value) for value in ("1", None, 1.5, True)),
    *(("stages", value) for value in (5, None, [1], {"0": {}})),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_record_with_a_wrong_value_is_refused_by_field(tmp_path, field, value):
    path = with_record(tmp_path, json.dumps({**GOOD, field: value}))
    for read in (lambda: load_concept(path, None), lambda: read_record(path)):
        with pytest.raises(ConceptFileError, match=rf"e\.safetensors.*{field}.*save the concept"):
            read()


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '["placeholder"]', '"placeholder category digest"', "NaN"],
)
def test_a_record_of_another_kind_is_refused(tmp_path, text):
    refused(with_record(tmp_path, text), None, "its record")


@pytest.mark.parametrize(
    ("up", "down"),
    [
        *(((3, 2), (3, 4)), ((3,), (2, 4)), ((3, 2), (8,)), ((3, 2, 0), (2, 4))),
        ((3, 2, 3, 3), (2, 4, 1, 1)),
    ],
)
def test_factors_that_make_no_weight_are_refused(tmp_path, up, down):
    embedding, weights = save(tmp_path, concept())
    metadata = read_metadata(weights)
    stem = "diffusion_model.out.2.lora"
    save_file(
        {f"{stem}_up.weight": torch.ones(up), f"{stem}_down.weight": torch.ones(down)},
        weights,
        metadata,
    )
    refused(embedding, weights, "make no weight")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        (1 << 40).to_bytes(8, "little") + b"{",
        b"{}",
        b"\x02\0\0\0\0\0\0\0{}",
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "e.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConceptFileError, match=r"e\.safetensors"):
        load_concept(path, None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "e.safetensors"
    os.mkfifo(path)
    with pytest.raises(ConceptFileError, match=r"e\.safetensors is not a regular file; restore"):
        load_concept(path, None)


def test_a_loaded_concept_does_not_hold_its_files(tmp_path):
    files = save(tmp_path, concept())
    loaded = load_concept(*files)
    before = dense(loaded.delta["out.2.weight"]).clone()
    for path in files:
        with path.open("r+b") as handle:  # in place: a mapped tensor would show it
            handle.seek(-16, os.SEEK_END)
            handle.write(b"\xff" * 16)
    assert torch.equal(dense(loaded.delta["out.2.weight"]), before)
    assert torch.equal(loaded.vectors, concept().vectors)


def test_half_a_concept_of_old_is_still_a_concept(tmp_path):
    """What the checks ask is what every saved concept has."""
    for changes in (
        {},
        {"delta": {}},
        {"record": {}},
        {"placeholder": "sks-1", "category": "B\u00e4r"},
    ):
        made = concept(**changes)
        loaded = load_concept(*save(tmp_path, made))
        assert loaded.digest() == made.digest() and loaded.record == made.record
        assert (loaded.placeholder, loaded.category) == (made.placeholder, made.category)


@pytest.mark.parametrize("alpha", [torch.tensor(1.0), torch.tensor(float("nan")), torch.ones(2)])
def test_an_alpha_that_was_changed_is_refused(tmp_path, alpha):
    """Load LoRA would draw another strength than Apply Concept."""
    thin = LowRank(torch.ones(3, 2), torch.ones(2, 4), (3, 4))
    embedding, weights = save(tmp_path, concept(delta={"out.2.weight": thin}))
    tensors, metadata = read_tensors(weights)
    name = "lora_unet_conv_out.alpha"
    assert float(tensors.pop(name)) == 2.0
    save_file(tensors, weights, metadata)  # without one nothing is scaled either
    assert load_concept(embedding, weights).digest() == read_record(embedding)["digest"]
    save_file({**tensors, name: alpha}, weights, metadata)
    refused(embedding, weights, name, "was saved as 2")
