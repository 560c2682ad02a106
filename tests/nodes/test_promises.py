"""The user's wires stay as they were; what was trained is what is applied."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from support.comparing import distance, example, output_of, private_output, snapshot
from support.stages import STAGES, dataset, draw, encode

from attndreambooth.devkit.training import context_of

PROMPT = "a photo of a <astro> person on the beach"


class Broken(RuntimeError):
    """What a test throws into a training."""


@pytest.fixture
def stop_after_first_step(monkeypatch):
    """Makes the progress of every training raise something after its first step."""
    import comfy.model_management

    from attndreambooth.nodes.host.ui import progress

    plain = progress.TrainingProgress.__call__

    def arrange(kind: str) -> type[BaseException]:
        def broken(self, loss, *others):
            if kind == "interrupt":
                comfy.model_management.interrupt_current_processing()
                return plain(self, loss, *others)
            raise Broken("in the middle")

        monkeypatch.setattr(progress.TrainingProgress, "__call__", broken)
        if kind == "error":
            return Broken
        return comfy.model_management.InterruptProcessingException

    return arrange


@pytest.mark.parametrize(
    ("ending", "number"),
    [("success", 1), ("success", 2), ("success", 3), ("error", 3), ("interrupt", 2)],
)
def test_the_wires_are_bit_identical_afterwards(sd15, train, stop_after_first_step, ending, number):
    import comfy.model_management

    picture = draw(sd15.model, sd15.clip, PROMPT)
    before = snapshot(sd15)
    assert before["forwards"] == []
    if ending == "success":
        out = train(number, sd15)
        assert out[4]["loss"][0] > 0
    else:
        with pytest.raises(stop_after_first_step(ending)):
            train(number, sd15)
    assert snapshot(sd15) == before
    assert torch.equal(draw(sd15.model, sd15.clip, PROMPT), picture)
    assert comfy.model_management.in_training is False
    assert torch.is_inference_mode_enabled()
    comfy.model_management.throw_exception_if_processing_interrupted()


@pytest.mark.parametrize("number", [2, 3])
def test_strength_0_is_the_base_and_strength_1_is_the_trained_module(
    sd15, train, run, privately, number
):
    concept, applied, _, *_ = train(number, sd15)
    inputs = example(sd15.model)
    base = output_of(sd15.model, inputs)
    trained = private_output(privately["backend"], inputs)
    assert distance(trained, base) > 1e-3
    assert distance(output_of(applied, inputs), trained) < 1e-5
    wires = {"model": sd15.model, "clip": sd15.clip, "concept": concept}
    for strength, wanted, tolerance in ((1.0, trained, 1e-5), (0.0, base, 0.0)):
        model, _, trigger = run("AttnDBApplyConcept", **wires, strength=strength)
        assert distance(output_of(model, inputs), wanted) <= tolerance
        assert trigger == "<astro> person"
    half = output_of(run("AttnDBApplyConcept", **wires, strength=0.5)[0], inputs)
    assert distance(half, base) > 1e-4 and distance(half, trained) > 1e-4
    assert torch.equal(output_of(sd15.model, inputs), base)


def with_lora(model: Any) -> Any:
    """MODEL with a change of weights in front of us, as a LoRA loader leaves it."""
    clone = model.clone()
    generator = torch.Generator().manual_seed(3)
    patches = {}
    for key, value in model.model.state_dict().items():
        if key.endswith(("attn2.to_q.weight", "attn1.to_v.weight")):
            noise = torch.randn(value.shape, generator=generator)
            patches[key] = ("diff", (0.3 * noise * value.std(),))
    assert len(clone.add_patches(patches, 0.7)) == len(patches) > 4
    return clone


def test_a_lora_in_front_is_part_of_the_base(sd15, train, privately):
    inputs = example(sd15.model)
    patched = with_lora(sd15.model)
    base = output_of(patched, inputs)
    assert distance(base, output_of(sd15.model, inputs)) > 1e-3
    wires = type(sd15)(patched, sd15.clip, sd15.vae)
    before = snapshot(wires)
    train(3, wires, steps=0)
    assert distance(private_output(privately["backend"], inputs), base) < 1e-5
    concept, applied, *_ = train(3, wires)
    trained = private_output(privately["backend"], inputs)
    assert distance(output_of(applied, inputs), trained) < 1e-5
    key = "input_blocks.1.1.transformer_blocks.0.attn1.to_v.weight"
    assert float(concept.delta[key].abs().max()) < 1e-3  # the training's change, not the LoRA's
    comparable = ("options", "patches", "uuids", "tokenizer")
    assert {k: snapshot(wires)[k] for k in comparable} == {k: before[k] for k in comparable}


PATCHED_TEXT = "clip_l.transformer.text_model.encoder.layers.3.mlp.fc1.weight"


def plain_clip(clip: Any) -> Any:
    return clip


def patched_clip(clip: Any) -> Any:
    """CLIP with a change of weights in front of us."""
    clone = clip.clone()
    like = clip.cond_stage_model.state_dict()[PATCHED_TEXT]
    noise = 5 * like.std() * torch.randn(like.shape, generator=torch.Generator().manual_seed(1))
    assert clone.add_patches({PATCHED_TEXT: ("diff", (noise,))}, 1.0)
    return clone


def skipping_clip(clip: Any) -> Any:
    """CLIP with the stock CLIP Set Last Layer."""
    clone = clip.clone()
    clone.clip_layer(-2)
    return clone


@pytest.mark.parametrize(
    ("kind", "change"),
    [("sd15", plain_clip), ("sd15", patched_clip), ("sd15", skipping_clip), ("sd21", plain_clip)],
)
def test_the_private_text_encoder_gives_what_the_stock_node_gives(
    kind, change, request, train, run, privately
):
    from attndreambooth.nodes.host.model.text import tokenize_training_prompts

    wires = request.getfixturevalue(kind)
    clip = change(wires.clip)
    data = dataset(run)
    out = train(1, type(wires)(wires.model, clip, wires.vae), dataset=data, steps=0)
    (prompt,), _ = tokenize_training_prompts(clip, data, 1, "last word")
    ours = context_of(privately["backend"], prompt, privately["result"].vectors)[0]
    theirs = encode(out[2], data.prompt)
    # on the CPU the host keeps CLIP in fp16, and rounds what it merges
    assert distance(ours, theirs) < (1e-3 if change is patched_clip else 1e-5)
    if change is not plain_clip:
        base = encode(wires.clip, "a photo of a person person")
        assert distance(encode(clip, "a photo of a person person"), base) > 2e-3


# ---- stages on wires


def test_handing_on_a_stages_model_and_clip_does_not_apply_it_twice(sd15, train, chain):
    wires, concept = sd15, None
    for number in (1, 2, 3):
        concept, model, clip, *_ = train(number, wires, concept)
        wires = type(sd15)(model, clip, sd15.vae)
    assert concept.digest() == chain[2].digest()
    assert concept.record == chain[2].record
    assert [entry["stage"] for entry in concept.record["stages"]] == [1, 2, 3]


def test_a_stage_starts_from_the_concept_it_is_given(sd15, train, run, chain, privately):
    one, two, three = chain
    assert one.delta == {} and {".attn2." in name for name in two.delta} == {True}
    assert torch.equal(two.vectors, one.vectors) and torch.equal(three.vectors, one.vectors)
    again, applied, *_ = train(3, sd15, two, steps=0)
    inputs = example(sd15.model)
    after_two = output_of(
        run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=two)[0], inputs
    )
    assert distance(after_two, output_of(sd15.model, inputs)) > 1e-4
    assert distance(private_output(privately["backend"], inputs), after_two) < 1e-5
    assert distance(output_of(applied, inputs), after_two) < 1e-5
    assert all(torch.equal(again.delta[name], two.delta[name]) for name in two.delta)


def test_all_stages_in_one_node_equal_three_nodes(sd15, run, chain, monkeypatch):
    from attndreambooth.attndb.config import presets as config

    def small() -> Any:
        return tuple(
            stage.with_(steps=2, batch_size=2, optimizer=config.OptimizerConfig(learning_rate=rate))
            for stage, (_, rate) in zip(config.paper(), STAGES.values(), strict=True)
        )

    monkeypatch.setitem(config.PRESETS, "paper", small)
    concept, model, clip, _, losses, *_ = run(
        "AttnDBAllStages", **sd15.named(), dataset=dataset(run), resolution=64, seed=7
    )
    assert concept.digest() == chain[2].digest()
    assert len(losses["loss"]) == 6
    assert draw(model, clip, PROMPT).isfinite().all()


def test_one_seed_gives_the_same_bytes_and_another_does_not(sd15, train, chain):
    one, two, _ = chain
    assert train(2, sd15, one)[0].digest() == two.digest()
    assert train(2, sd15, one, seed=8)[0].digest() != two.digest()


def test_an_interrupted_training_queued_again_equals_an_uninterrupted_one(
    sd15, train, chain, stop_after_first_step, monkeypatch, caplog
):
    one, two, _ = chain
    with pytest.raises(stop_after_first_step("interrupt")):
        train(2, sd15, one)
    monkeypatch.undo()
    with caplog.at_level(logging.INFO):
        resumed = train(2, sd15, one)[0]
    assert "resuming at step 2" in caplog.text
    assert resumed.digest() == two.digest()
    assert resumed.record == two.record
