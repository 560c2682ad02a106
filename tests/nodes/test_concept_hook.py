"""A concept on a part of the prompts: the rest of the picture is the plain MODEL's."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
import torch
from support.stages import refuses

pytestmark = pytest.mark.host

SIDE = 16
"""Of the latents."""


@pytest.fixture(scope="module")
def other(trained):
    """Another subject: the first one's change turned round, under a word of its own."""
    delta = {name: -delta for name, delta in trained.delta.items()}
    record = {**trained.record, "photos": [{"name": "robot.png", "sha256": "0" * 64}]}
    return dataclasses.replace(trained, placeholder="<robo>", delta=delta, record=record)


@pytest.fixture
def words(run, sd15, trained, other):
    """CLIP with both words, and no weights on any MODEL."""
    clip = sd15.clip
    for concept in (trained, other):
        _, clip, _ = run("AttnDBApplyConcept", model=sd15.model, clip=clip, concept=concept)
    return clip


def hook(run, concept, **options) -> Any:
    return run("AttnDBCreateHookConcept", concept=concept, **options)[0]


def drawn(model: Any, positive: Any, negative: Any, steps: int = 1, cfg: float = 1.0) -> Any:
    """Latents; of one step at cfg 1 they are the MODEL's answer, and no place knows of another."""
    import nodes

    latent = {"samples": torch.zeros(1, 4, SIDE, SIDE)}
    return nodes.KSampler().sample(
        model, 5, steps, cfg, "euler", "normal", positive, negative, latent, 1.0
    )[0]["samples"]


def with_props(pair: tuple[Any, Any], mask: torch.Tensor | None = None, hooks: Any = None) -> Any:
    from comfy_extras.nodes_hooks import PairConditioningSetProperties

    return PairConditioningSetProperties().set_properties(*pair, 1.0, "default", mask, hooks)


@pytest.fixture
def pair(words):
    import nodes

    return tuple(nodes.CLIPTextEncode().encode(words, text)[0] for text in ("a <astro> dog", "bad"))


def near(one: torch.Tensor, two: torch.Tensor) -> bool:
    return torch.allclose(one, two, rtol=0, atol=1e-5 * two.abs().max().item())


def on_model(run, sd15, words, concept, strength=1.0):
    return run(
        "AttnDBApplyConcept", model=sd15.model, clip=words, concept=concept, strength=strength
    )[0]


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_on_both_prompts_it_is_the_concept_applied(run, sd15, trained, words, pair, strength):
    hooked = with_props(pair, hooks=hook(run, trained, strength=strength))
    expected = drawn(on_model(run, sd15, words, trained, strength), *pair, steps=3, cfg=7.0)
    assert near(drawn(sd15.model, *hooked, steps=3, cfg=7.0), expected)
    plain = drawn(sd15.model, *pair, steps=3, cfg=7.0)
    assert not near(plain, expected), "the concept does nothing"


def test_each_mask_has_its_own_concept_and_the_model_none(run, sd15, trained, other, words, pair):
    from comfy_extras.nodes_hooks import PairConditioningCombine

    left = torch.zeros(1, SIDE, SIDE)
    left[..., : SIDE // 2] = 1.0
    before = drawn(sd15.model, *pair)
    parts = [
        with_props(pair, mask, hook(run, concept))
        for mask, concept in ((left, trained), (1.0 - left, other))
    ]
    both = PairConditioningCombine().combine(*parts[0], *parts[1])
    found = drawn(sd15.model, *both)
    halves = [drawn(on_model(run, sd15, words, concept), *pair) for concept in (trained, other)]
    assert near(found[..., : SIDE // 2], halves[0][..., : SIDE // 2])
    assert near(found[..., SIDE // 2 :], halves[1][..., SIDE // 2 :])
    assert not near(halves[0], halves[1])
    assert torch.equal(drawn(sd15.model, *pair), before)


def behind_lcm(model):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return ModelSamplingDiscrete().patch(model, "lcm", False)[0]


def test_a_model_sampling_node_goes_behind_a_hook_as_behind_apply_concept(
    run, sd15, trained, words, pair
):
    hooked = with_props(pair, hooks=hook(run, trained))
    applied = behind_lcm(on_model(run, sd15, words, trained))
    expected = drawn(applied, *pair, steps=2, cfg=2.0)
    assert near(drawn(behind_lcm(sd15.model), *hooked, steps=2, cfg=2.0), expected)
    record = {**trained.record, "prediction_type": "v"}
    hooked = with_props(pair, hooks=hook(run, dataclasses.replace(trained, record=record)))
    with pytest.raises(ValueError, match="predicts v, and this one predicts epsilon"):
        drawn(sd15.model, *hooked)


def test_another_stage_of_the_concept_is_replaced_as_on_a_model(run, sd15, trained, other, pair):
    first = hook(run, trained, prev_hooks=hook(run, other), strength=0.5)
    twice = hook(run, trained, prev_hooks=first)
    assert (len(twice), len(hook(run, trained, prev_hooks=first, strength=0.0))) == (2, 1)
    single = hook(run, trained, prev_hooks=hook(run, other))
    found, expected = (
        drawn(sd15.model, *with_props(pair, hooks=hooks)) for hooks in (twice, single)
    )
    assert near(found, expected)
    namesake = dataclasses.replace(other, placeholder=trained.placeholder)
    with refuses("Create Hook Concept: prev_hooks already has the concept '<astro>'"):
        hook(run, namesake, prev_hooks=first)


def combined(one: Any, two: Any) -> Any:
    from comfy_extras.nodes_hooks import CombineHooks

    return CombineHooks().combine_hooks(hooks_A=one, hooks_B=two)[0]


def test_joined_by_the_host_a_concept_is_twice_on_no_prompt(run, sd15, trained, other, pair):
    """Combine Hooks tells nothing to the hooks; unlike prompts may have it at unlike strengths."""
    from comfy_extras.nodes_hooks import PairConditioningCombine

    one, half = hook(run, trained), hook(run, trained, strength=0.5)
    with pytest.raises(ValueError, match=r"<astro> is in two hooks of one prompt.*prev_hooks"):
        drawn(sd15.model, *with_props(pair, hooks=combined(one, half)))
    namesake = dataclasses.replace(other, placeholder=trained.placeholder)
    with pytest.raises(ValueError, match="a prompt's hooks already has the concept '<astro>'"):
        drawn(sd15.model, *with_props(pair, hooks=combined(one, hook(run, namesake))))
    same = drawn(sd15.model, *with_props(pair, hooks=combined(one, one)))
    assert near(same, drawn(sd15.model, *with_props(pair, hooks=one)))
    left = torch.zeros(1, SIDE, SIDE)
    left[..., : SIDE // 2] = 1.0
    parts = [with_props(pair, *of) for of in ((left, one), (1.0 - left, half))]
    found = drawn(sd15.model, *PairConditioningCombine().combine(*parts[0], *parts[1]))
    assert near(found[..., : SIDE // 2], same[..., : SIDE // 2]) and not near(found, same)
    assert not sd15.model.wrappers and "wrappers" not in sd15.model.model_options.get(
        "transformer_options", {}
    )


def test_behind_others_it_is_added_to_them_and_leaves_their_group(run, trained, other):
    first = hook(run, trained)
    both = hook(run, other, prev_hooks=first)
    assert (len(first), len(both)) == (1, 2)
    assert len(hook(run, other, prev_hooks=first, strength=0.0)) == 1


def test_a_concept_of_words_alone_has_nothing_to_hook_and_it_is_said(run, chain, caplog):
    with caplog.at_level(logging.INFO):
        assert len(hook(run, chain[0])) == 0
    assert "<astro> is its word alone" in caplog.text


def test_what_cannot_be_hooked_is_refused(run, sd15, sd21, trained, words, pair):
    with refuses("Create Hook Concept: .*strength is nan"):
        hook(run, trained, strength=float("nan"))
    parts = dataclasses.replace(trained, modules={"mapper.weight": torch.zeros(1)})
    with refuses("Create Hook Concept: the concept <astro> has parts .*Use Apply Concept"):
        hook(run, parts)
    hooked = with_props(pair, hooks=hook(run, trained))
    with pytest.raises(ValueError, match="on the MODEL that samples and in a hook"):
        drawn(on_model(run, sd15, words, trained), *hooked)
    with pytest.raises(ValueError, match=r"trained for SD 1\.5, and this MODEL is SD 2\.1"):
        drawn(sd21.model, *hooked)


# ---- one node for each subject


LEFT = {"left": 0.0, "width": 0.5, "feather": 0.0, "canvas": "picture"}
TEXT = {"text": "a {} in the snow", "negative_text": "a blurry {}"}


def placed(run, sd15, concept, **more):
    return run("AttnDBConceptInRegion", clip=sd15.clip, concept=concept, **{**LEFT, **TEXT, **more})


def test_a_region_shows_what_its_concept_draws_alone(run, sd15, trained, other, words):
    import nodes

    first = placed(run, sd15, trained)
    both = placed(run, sd15, other, left=0.5, positive=first[0], negative=first[1])
    found = drawn(sd15.model, *both, cfg=3.0)
    for concept, half in ((trained, slice(0, SIDE // 2)), (other, slice(SIDE // 2, SIDE))):
        texts = (f"a {concept.trigger} in the snow", f"a blurry {concept.trigger}")
        pair = [nodes.CLIPTextEncode().encode(words, text)[0] for text in texts]
        alone = drawn(on_model(run, sd15, words, concept), *pair, cfg=3.0)
        assert near(found[..., half], alone[..., half])


@pytest.mark.parametrize("canvas", ["region", "picture"])
def test_in_a_canvas_of_its_own_a_region_does_not_know_of_the_others(
    run, sd15, trained, other, canvas
):
    halves = []
    for text in ("a {} in the snow", "a {} at night"):
        first = placed(run, sd15, trained, text=text, canvas=canvas)
        more = {"positive": first[0], "negative": first[1], "canvas": canvas}
        both = placed(run, sd15, other, left=0.5, **more)
        found = drawn(sd15.model, *both, steps=3, cfg=3.0)
        halves.append((found[..., : SIDE // 2], found[..., SIDE // 2 :]))
    assert not near(halves[0][0], halves[1][0])
    assert near(halves[0][1], halves[1][1]) == (canvas == "region")


def test_a_mask_takes_the_place_of_the_numbers(run, sd15, trained):
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    found, expected = (
        drawn(sd15.model, *placed(run, sd15, trained, **more))
        for more in ({"mask": left, "left": 0.9}, {})
    )
    assert near(found, expected)


def test_a_regions_edge_fades_outwards_and_ends_at_the_pictures():
    from attndreambooth.nodes.host.model.region import SIDE as PIXELS
    from attndreambooth.nodes.host.model.region import Region

    mask = Region(0.0, 0.25, 0.5, 0.5, feather=0.25).mask()[0]
    middle = mask[PIXELS // 2]
    assert bool((middle[: PIXELS // 2] == 1).all()) and bool((middle[3 * PIXELS // 4 :] == 0).all())
    assert middle[5 * PIXELS // 8] == pytest.approx(0.5, abs=0.01)
    assert mask[PIXELS // 8, 0] == pytest.approx(0.5, abs=0.01)
    hard = Region(0.25, 0.0, 0.5, 1.0).mask()
    assert set(hard.unique().tolist()) == {0.0, 1.0} and hard.mean() == 0.5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"text": "a dog in the snow"}, r"text 'a dog in the snow' has no subject: write {} where"),
        ({"width": 0.0}, r"the region \(left 0, top 0, 0 x 1\) is empty"),
        ({"left": 1.0}, "is empty"),
        ({"strength": float("inf")}, "strength is inf"),
        ({"mask": torch.zeros(1, 64, 64)}, "mask is empty"),
        ({"positive": []}, "positive is connected and negative is not: .*Connect both"),
        ({"negative": []}, "negative is connected and positive is not"),
    ],
)
def test_a_region_that_is_none_is_refused(run, sd15, trained, more, said):
    with refuses(f"Concept in Region: .*{said}"):
        placed(run, sd15, trained, **more)


def test_its_word_is_found_as_clip_reads_it(run, sd15, trained):
    assert placed(run, sd15, trained, text=f"a {trained.trigger.upper()} in the snow")


def test_a_clip_without_a_text_encoder_of_sd_is_told_as_one(run, sd15, trained, monkeypatch):
    from attndreambooth.nodes.host.model import placeholders

    monkeypatch.setattr(placeholders, "embedding_widths", lambda clip: {})
    with refuses("this CLIP is of another kind: use the CLIP of a SD 1.5 checkpoint"):
        placed(run, sd15, trained)
