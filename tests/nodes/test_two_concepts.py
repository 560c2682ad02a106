"""Two concepts on one wire: told apart by how they began; none silently takes another's place."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.stages import draw, encode, refuses

PROMPT = "a <astro> person"


@pytest.fixture(scope="module")
def stranger(trained):
    """Another subject, trained from its own stage 1 under the placeholder of the first."""
    record = dict(trained.record)
    first, *rest = record["stages"]
    record["photos"] = [{"name": "robot.png", "sha256": "0" * 64}]
    record["stages"] = [{**first, "seed": first["seed"] + 1}, *rest]
    return dataclasses.replace(
        trained, category="robot", vectors=trained.vectors + 0.1, record=record
    )


def applied(run, wires, concept, **options):
    model, clip, _ = run("AttnDBApplyConcept", **wires, concept=concept, **options)
    return {"model": model, "clip": clip}


@pytest.fixture
def wires(sd15):
    return {"model": sd15.model, "clip": sd15.clip}


BOTH = r"'<astro>' \(person; photos .*'<astro>' \(robot; photos 'robot\.png'.*another placeholder"


@pytest.mark.parametrize("strength", [1.0, 0.0])
def test_another_concept_under_the_same_placeholder_is_refused_and_both_are_named(
    run, wires, trained, stranger, strength
):
    first = applied(run, wires, trained, strength=strength)
    with refuses("Apply Concept: .*" + BOTH):
        applied(run, first, stranger)
    with refuses(BOTH):
        applied(run, {**first, "model": wires["model"]}, stranger)


def test_the_case_of_a_placeholder_makes_no_other_word_of_it(run, wires, trained, stranger):
    loud = dataclasses.replace(stranger, placeholder="<ASTRO>")
    with refuses("'<astro>' .*'<ASTRO>' .*another concept"):
        applied(run, applied(run, wires, trained), loud)


def test_a_later_stage_takes_the_place_of_an_earlier_one(run, wires, chain):
    once = applied(run, wires, chain[2])
    for earlier in chain[:2]:
        twice = applied(run, applied(run, wires, earlier), chain[2])
        assert torch.equal(draw(**twice, prompt=PROMPT), draw(**once, prompt=PROMPT))


@pytest.mark.parametrize("metadata", ["record", "no photos"])
def test_a_saved_and_loaded_concept_is_still_the_same_one(run, wires, trained, home, metadata):
    (name, _) = run("AttnDBSaveConcept", concept=trained, name="again", metadata=metadata)
    loaded, _ = run("AttnDBLoadConcept", name=name)
    twice = applied(run, applied(run, wires, trained), loaded)
    assert torch.equal(
        draw(**twice, prompt=PROMPT), draw(**applied(run, wires, trained), prompt=PROMPT)
    )


def merged(one, other, ratio):
    from comfy_extras.nodes_model_merging import ModelMergeSimple

    return ModelMergeSimple().merge(one, other, ratio)[0]


def test_a_merge_does_not_hide_a_concept_from_apply_concept(run, wires, trained):
    with_it = applied(run, wires, trained)
    plain = merged(wires["model"], wires["model"], 0.5)
    hidden = merged(wires["model"], with_it["model"], 0.5)
    deeper = merged(wires["model"], hidden, 0.5)
    once = draw(**applied(run, {**wires, "model": plain}, trained), prompt=PROMPT)
    for model in (hidden, deeper):
        before = [list(entries) for entries in model.patches.values()]
        again = applied(run, {"model": model, "clip": with_it["clip"]}, trained)
        torch.testing.assert_close(draw(**again, prompt=PROMPT), once, rtol=1e-4, atol=1e-4)
        assert [list(entries) for entries in model.patches.values()] == before


def test_a_merge_does_not_hide_another_concept(run, wires, trained, stranger):
    hidden = merged(wires["model"], applied(run, wires, trained)["model"], 0.5)
    with refuses(BOTH):
        applied(run, {**wires, "model": hidden}, stranger)


def test_a_merge_does_not_hide_a_concept_from_the_next_stage(sd15, run, train, chain, privately):
    from attndreambooth.nodes.host.model.weights import merged_weights

    hidden = merged(sd15.model, train(2, sd15, chain[0])[1], 0.5)
    train(3, type(sd15)(hidden, sd15.clip, sd15.vae), chain[1], steps=0)
    trained_on = privately["backend"].unet.state_dict()
    base = merged_weights(sd15.model, "diffusion_model.")
    for name, delta in chain[1].delta.items():
        expected = base[name] + delta.float()
        torch.testing.assert_close(trained_on[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("part", ["model", "clip"])
def test_beginning_anew_where_the_placeholder_is_taken_is_refused(
    sd15, run, wires, train, trained, output, part
):
    taken = {"model": sd15.model, "clip": sd15.clip}
    taken[part] = applied(run, wires, trained)[part]
    again = type(sd15)(taken["model"], taken["clip"], sd15.vae)
    with refuses(rf"Stage 1.*{part.upper()} already has .*'<astro>'"):
        train(1, again)
    assert not output.exists() or not list(output.rglob("*"))


def test_a_stage_goes_on_from_wires_that_have_the_concept(sd15, run, train, chain):
    _, model, clip, *_ = train(1, sd15)
    again = train(2, type(sd15)(model, clip, sd15.vae), chain[0], steps=0)[0]
    assert torch.equal(again.vectors, chain[0].vectors)


def test_two_words_with_one_beginning_live_side_by_side(run, wires, trained, stranger):
    two = dataclasses.replace(stranger, placeholder="<astro>2")
    both = applied(run, applied(run, wires, trained), two)
    alone = applied(run, wires, two)
    assert torch.equal(
        encode(both["clip"], "a <astro>2 cat"), encode(alone["clip"], "a <astro>2 cat")
    )


@pytest.fixture
def twins(trained):
    """Two LoRAs that were imported with one embedding, each under a placeholder of its own."""
    one = dataclasses.replace(trained, record={"stages": []})
    turned = {name: -change for name, change in trained.delta.items()}
    return one, dataclasses.replace(one, placeholder="<robo>", delta=turned)


def test_two_loras_of_one_embedding_are_two_concepts_and_neither_is_added_twice(run, wires, twins):
    one, other = twins
    both = applied(run, applied(run, wires, one), other)
    again = applied(run, both, one)
    expected, found = (draw(**chain, prompt=PROMPT) for chain in (both, again))
    assert torch.allclose(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_two_loras_of_one_embedding_have_hooks_of_their_own(run, wires, twins):
    import nodes

    one, other = twins
    first = run("AttnDBCreateHookConcept", concept=one)[0]
    assert len(run("AttnDBCreateHookConcept", concept=other, prev_hooks=first)[0]) == 2
    has_one = applied(run, wires, one)
    positive, negative = run(
        "AttnDBConceptInRegion", clip=wires["clip"], concept=other, text="a {}"
    )
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    nodes.KSampler().sample(
        has_one["model"], 5, 1, 1.0, "euler", "normal", positive, negative, latent, 1.0
    )
