"""The correction of Apply Concept: off it changes nothing, on it is the formula on this CLIP."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.stages import encode, refuses


def applied(run, sd15, concept, clip=None, **widgets):
    wires = {"model": sd15.model, "clip": clip or sd15.clip}
    return run("AttnDBApplyConcept", **wires, concept=concept, **widgets)[1]


def slow(vector: torch.Tensor, category: torch.Tensor, turn: float, norm: float) -> torch.Tensor:
    """docs/formulas.md, Beyond the paper, in doubles."""
    v, c = vector.double(), category.double()
    n = (1 - norm) * v.norm() + norm * c.norm()
    angle = torch.arccos((v / v.norm()) @ (c / c.norm()))
    a, b = torch.sin((1 - turn) * angle), torch.sin(turn * angle)
    return (n * (a * v / v.norm() + b * c / c.norm()) / torch.sin(angle)).float()


def table(clip) -> torch.Tensor:
    model = getattr(clip.cond_stage_model, clip.cond_stage_model.clip)
    return model.transformer.get_input_embeddings().weight


def table_key(clip) -> str:
    [key] = [n for n, p in clip.cond_stage_model.named_parameters() if p is table(clip)]
    return key


@pytest.fixture
def person(sd15) -> torch.Tensor:
    tokens = sd15.clip.tokenize("person")
    [[_, (token, _), *_]] = next(iter(tokens.values()))
    return table(sd15.clip)[int(token)].float()


def test_off_it_is_the_embedding_as_it_was_learned(sd15, run, trained):
    text = "a photo of a <astro> person on the beach"
    plain, off = applied(run, sd15, trained), applied(run, sd15, trained, correction=0.0)
    assert torch.equal(encode(plain, text), encode(off, text))
    known = off.tokenizer.attndb_known["<astro>"]
    assert known.vectors is trained.vectors


@pytest.mark.parametrize("correction", [0.2, 0.6])
def test_on_it_is_the_formula_with_the_category_of_this_clip(
    sd15, run, trained, person, correction
):
    clip = applied(run, sd15, trained, correction=correction)
    [vector] = clip.tokenizer.attndb_known["<astro>"].vectors
    expected = slow(trained.vectors[0], person, correction, min(1.0, 2.5 * correction))
    torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-7)
    plain = encode(applied(run, sd15, trained), "a <astro> person")
    assert not torch.equal(encode(clip, "a <astro> person"), plain)
    assert torch.equal(encode(clip, "a person"), encode(sd15.clip, "a person"))


@pytest.mark.parametrize("correction", [0.0, 0.2])
def test_the_concept_is_put_on_clip_once(sd15, run, trained, monkeypatch, correction):
    from attndreambooth.nodes.host.model import placeholders

    put, plain = [], placeholders.with_vectors
    monkeypatch.setattr(placeholders, "with_vectors", lambda *a: put.append(a[1]) or plain(*a))
    applied(run, sd15, trained, correction=correction)
    assert put == ["<astro>"]


def test_corrected_it_is_refused_by_a_clip_of_another_kind_as_uncorrected(sd15, run, trained):
    other = dataclasses.replace(trained, text_key="clip_h")
    for correction in (0.0, 0.2):
        with refuses(r"was trained for SD 1.5 \(clip_h, width \d+\), and this CLIP is clip_l"):
            applied(run, sd15, other, correction=correction)


def test_a_patch_on_the_text_encoder_moves_its_category_too(sd15, run, trained, person):
    weight, key = table(sd15.clip), table_key(sd15.clip)
    patched = sd15.clip.clone()
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.01
    patched.add_patches({key: ("diff", (change,))}, 1.0)
    plain = applied(run, sd15, trained, correction=0.3).tokenizer.attndb_known["<astro>"]
    moved = applied(run, sd15, trained, patched, correction=0.3).tokenizer.attndb_known["<astro>"]
    assert not torch.equal(plain.vectors, moved.vectors)


def test_at_the_end_it_is_the_category_and_beyond_it_is_refused(sd15, run, trained, person):
    clip = applied(run, sd15, trained, correction=1.0)
    [vector] = clip.tokenizer.attndb_known["<astro>"].vectors
    torch.testing.assert_close(vector, person, rtol=1e-4, atol=1e-6)
    with refuses(r"Apply Concept: correction = 1\.5: use 0 \(off\) to 1"):
        applied(run, sd15, trained, correction=1.5)


def test_the_text_encoders_table_is_read_once_for_all_that_is_corrected(
    sd15, run, trained, monkeypatch
):
    """49,408 rows; where the host streams weights it loads the text encoder's file for them."""
    from attndreambooth.nodes.host.model import text

    read, plain = [], text.merged_weights
    monkeypatch.setattr(text, "merged_weights", lambda *a: read.append(a[0]) or plain(*a))
    other = dataclasses.replace(trained, category="robot")
    clip = sd15.clip.clone()
    clip.add_patches({table_key(clip): ("diff", (torch.ones_like(table(clip)),))}, 0.1)
    for concept in (trained, trained, other, trained, other):
        for correction in (0.2, 0.4):
            applied(run, sd15, concept, clip, correction=correction)
    assert len(read) == 2
    moved = clip.clone()
    moved.add_patches({table_key(clip): ("diff", (torch.ones_like(table(clip)),))}, 0.1)
    applied(run, sd15, trained, moved, correction=0.2)
    assert len(read) == 3
