"""What else changes a CLIP, in front of Apply Concept and behind it: hooks, and merges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.stages import encode

TEXT = "a photo of a <astro> person"


@pytest.fixture
def with_concept(run, sd15, trained):
    """The CLIP that Apply Concept makes of another."""

    def make(clip: Any) -> Any:
        return run("AttnDBApplyConcept", model=sd15.model, clip=clip, concept=trained)[1]

    return make


@pytest.mark.parametrize("schedule", [False, True])
def test_hooks_in_front_and_behind_give_the_text_of_the_same_lora(sd15, with_concept, schedule):
    import comfy.hooks
    from comfy_extras.nodes_hooks import SetClipHooks

    weights = sd15.clip.cond_stage_model.state_dict()
    key = next(name for name in weights if name.endswith("q_proj.weight"))
    change = {key: ("diff", (torch.full_like(weights[key], 0.05),))}

    def hooked(clip: Any) -> Any:
        hook = comfy.hooks.WeightHook(strength_model=0.0, strength_clip=1.0)
        hook.weights, hook.weights_clip, hook.need_weight_init = {}, change, False
        hooks = comfy.hooks.HookGroup()
        hooks.add(hook)
        return SetClipHooks().apply_hooks(clip, schedule, True, hooks)[0]

    lora = sd15.clip.clone()
    assert lora.add_patches(change, 1.0) == [key]
    of_lora = encode(with_concept(lora), TEXT)
    assert torch.equal(encode(with_concept(hooked(sd15.clip)), TEXT), of_lora)
    assert torch.equal(encode(hooked(with_concept(sd15.clip)), TEXT), of_lora)
    assert not torch.equal(encode(with_concept(sd15.clip), TEXT), of_lora)


def test_a_merge_has_the_words_of_its_first(sd15, with_concept):
    from comfy_extras.nodes_model_merging import CLIPMergeSimple

    applied = with_concept(sd15.clip)
    known, unknown = encode(applied, TEXT), encode(sd15.clip, TEXT)
    first = CLIPMergeSimple().merge(applied, sd15.clip, 0.5)[0]
    second = CLIPMergeSimple().merge(sd15.clip, applied, 0.5)[0]
    assert torch.allclose(encode(first, TEXT), known, atol=1e-4)
    assert torch.allclose(encode(second, TEXT), unknown, atol=1e-4)
    assert not torch.allclose(known, unknown, atol=1e-2)
