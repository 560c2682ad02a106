"""A concept is what was trained, added up, under the stock loader's names."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from attndreambooth.attndb.artifacts.concept import (
    ConceptFileError,
    TrainedConcept,
    embeddings_from_file,
)
from attndreambooth.attndb.artifacts.lora_extraction import ExtractionConfig, extract_concept
from attndreambooth.attndb.artifacts.weight_delta import LowRank, delta_tensors
from attndreambooth.attndb.models.embedding_correction import corrected
from attndreambooth.devkit.pretend_card import OnCard

NAMES = ("input_blocks.1.1.attn2.to_q.weight", "out.2.bias", "out.2.weight")


def delta(seed=0, names=NAMES, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, 4, generator=generator).to(dtype) for name in names}


def concept(**changes):
    fields = {
        "placeholder": "<x>",
        "category": "dog",
        "text_key": "clip_l",
        "vectors": torch.ones(2, 8),
        "delta": delta(),
        "base_family": "SD 1.5",
        "record": {"prompt": "a photo of a <x> dog", "stages": [{"stage": 1}]},
    }
    return TrainedConcept(**{**fields, **changes})


def test_its_tensors_are_in_main_memory_whatever_it_is_made_of():
    def there(value):
        return OnCard(value, torch.device("cuda", 0))

    thin = LowRank(there(torch.ones(4, 2)), there(torch.ones(2, 3)), (4, 3))
    whole = {name: there(change) for name, change in delta().items()}
    of_card = {"vectors": there(torch.ones(2, 8)), "further": {"clip_g": there(torch.ones(2, 9))}}
    of_card |= {"delta": {**whole, "thin": thin}, "modules": {"a": there(torch.ones(1))}}
    made = concept(**of_card)
    tensors = [*made.embeddings.values(), *made.modules.values()]
    tensors += delta_tensors(made.delta).values()
    assert len(tensors) == 8 and {value.device.type for value in tensors} == {"cpu"}
    small, _ = extract_concept(made, ExtractionConfig(rank=2))
    assert {value.device.type for value in delta_tensors(small.delta).values()} == {"cpu"}
    assert corrected(made.vectors, torch.ones(8), 0.3).device.type == "cpu"
    own = concept()
    assert own.delta[NAMES[0]] is dataclasses.replace(own, placeholder="<y>").delta[NAMES[0]]


def test_a_stage_adds_its_change_to_the_ones_before():
    before, change = concept(), delta(1, (*NAMES, "new.weight"))
    with_stage = before.with_stage(torch.zeros(2, 8), change, {"stage": 2})
    for name in NAMES:
        assert torch.equal(with_stage.delta[name], before.delta[name] + change[name])
    assert torch.equal(with_stage.delta["new.weight"], change["new.weight"])
    assert torch.equal(with_stage.vectors, torch.zeros(2, 8))
    assert [entry["stage"] for entry in with_stage.record["stages"]] == [1, 2]
    assert with_stage.record["prompt"] == before.record["prompt"]
    assert len(before.record["stages"]) == 1 and "new.weight" not in before.delta


def test_half_precision_changes_are_added_in_fp32():
    a, b = delta(0, dtype=torch.float16), delta(1, dtype=torch.float16)
    with_stage = concept(delta=a).with_stage(torch.zeros(1, 8), b, {})
    for name in NAMES:
        assert torch.equal(with_stage.delta[name], (a[name].float() + b[name].float()).half())


def test_the_digest_knows_vectors_names_values_and_precision():
    variants = [
        concept(),
        concept(vectors=torch.zeros(2, 8)),
        concept(delta=delta(1)),
        concept(delta=delta(names=("a.weight", "b.weight", "c.weight"))),
        concept(delta={name: value.half() for name, value in delta().items()}),
        concept(delta={}),
    ]
    assert len({variant.digest() for variant in variants}) == len(variants)
    reordered = dict(reversed(delta().items()))
    assert concept(delta=reordered, placeholder="<y>").digest() == concept().digest()


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"emb_params": torch.zeros(1, 8)},
        {"clip_l": torch.zeros(8)},
        {"clip_l": torch.zeros(1, 8), "clip_h": torch.zeros(1, 8)},
        {"clip_l": torch.zeros(2, 8), "clip_g": torch.zeros(1, 8)},
        {"clip_l": torch.zeros(1, 8), "clip_g": torch.zeros(8)},
    ],
)
def test_an_embedding_file_of_other_keys_is_refused(tensors):
    with pytest.raises(ConceptFileError, match=r"e\.safetensors: unknown keys"):
        embeddings_from_file(tensors, "e.safetensors")


@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        ("SD 1.5", "stable-diffusion-v1"),
        ("SD 2.1-base", "stable-diffusion-v2-512"),
        ("SD 2.1-768", "stable-diffusion-v2-768-v"),
    ],
)
def test_the_architecture_is_the_modelspec_name(family, architecture):
    assert concept(base_family=family).architecture == architecture


def test_a_concept_cannot_be_changed():
    made: Any = concept()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.category = "cat"
