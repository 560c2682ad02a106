"""The user's wires stay as they were; what was trained is what is applied (DESIGN: promises)."""

from __future__ import annotations

import logging
import zlib
from typing import Any

import pytest
import torch
from support.checkpoints import make_checkpoint
from support.stages import STAGES, dataset, draw, encode, load

PROMPT = "a photo of a <astro> person on the beach"


def digest(module: torch.nn.Module) -> list[tuple[str, torch.dtype, int]]:
    """Name, type and checksum of every weight."""
    return [
        (
            name,
            value.dtype,
            zlib.crc32(value.detach().contiguous().view(-1).view(torch.uint8).numpy()),
        )
        for name, value in module.state_dict().items()
    ]


def patches_of(patcher: Any) -> dict[str, list[int]]:
    return {key: [id(entry) for entry in entries] for key, entries in patcher.patches.items()}


def snapshot(wires: Any) -> dict[str, Any]:
    """All that the host could see change on the wires."""
    modules = {
        "model": wires.model.model,
        "clip": wires.clip.cond_stage_model,
        "vae": wires.vae.first_stage_model,
    }
    tokenizer = wires.clip.tokenizer
    inner = getattr(tokenizer, tokenizer.clip)
    return {
        **{f"{name} weights": digest(module) for name, module in modules.items()},
        "grad": [
            name
            for name, module in modules.items()
            for p in module.parameters()
            if p.requires_grad or p.grad is not None
        ],
        "training": [m.training for module in modules.values() for m in module.modules()],
        "hooks": sum(
            len(m._forward_hooks) for module in modules.values() for m in module.modules()
        ),
        "forwards": [
            name
            for module in modules.values()
            for name, m in module.named_modules()
            if "forward" in vars(m)
        ],
        "patches": [patches_of(p) for p in (wires.model, wires.clip.patcher, wires.vae.patcher)],
        "uuids": [p.patches_uuid for p in (wires.model, wires.clip.patcher, wires.vae.patcher)],
        "options": repr(wires.model.model_options),
        "objects": sorted(wires.model.object_patches),
        "tokenizer": (id(tokenizer), sorted(vars(tokenizer)), id(inner), sorted(vars(inner))),
        "tokens": repr(wires.clip.tokenize(PROMPT)),
        "layer": wires.clip.layer_idx,
    }


class Broken(RuntimeError):
    """What a test throws into a training."""


@pytest.fixture
def stop_after_first_step(monkeypatch):
    """Makes the progress of every training raise something after its first step."""
    import comfy.model_management

    from attndreambooth.nodes.host import progress

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


@pytest.fixture
def privately(monkeypatch):
    """The private model of the newest training in this test, as it was left."""
    from attndreambooth.nodes.host import stage

    kept: dict[str, Any] = {}
    plain = stage.train_stage

    def keep(backend, *args, **kwargs):
        kept["backend"] = backend
        kept["result"] = plain(backend, *args, **kwargs)
        return kept["result"]

    monkeypatch.setattr(stage, "train_stage", keep)
    return kept


def example(width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    return x, torch.tensor([20, 700]), torch.randn(2, 77, width, generator=generator)


def output_of(model: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The U-Net of a MODEL on the wires, its patches merged by the host."""
    import comfy.model_management

    x, t, context = inputs
    comfy.model_management.load_models_gpu([model], force_patch_weights=True)
    return model.model.diffusion_model(x, t, context=context, transformer_options={}).clone()


def private_output(backend: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, t, context = inputs
    return backend.predict(x, t, context)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("number", [2, 3])
def test_strength_0_is_the_base_and_strength_1_is_the_trained_module(
    sd15, train, run, privately, number
):
    concept, applied, _, *_ = train(number, sd15)
    inputs = example(768)
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
    inputs = example(768)
    patched = with_lora(sd15.model)
    base = output_of(patched, inputs)
    assert distance(base, output_of(sd15.model, inputs)) > 1e-3
    wires = type(sd15)(patched, sd15.clip, sd15.vae)
    before = snapshot(wires)
    train(3, wires, steps=0)
    assert distance(private_output(privately["backend"], inputs), base) < 1e-6
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
    from attndreambooth.nodes.host.text import tokenize_training_prompt

    wires = request.getfixturevalue(kind)
    clip = change(wires.clip)
    data = dataset(run)
    out = train(1, type(wires)(wires.model, clip, wires.vae), dataset=data, steps=0)
    prompt, _ = tokenize_training_prompt(clip, data, 1, "last word")
    ours = privately["backend"].encode_text(prompt, privately["result"].vectors)[0]
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
    inputs = example(768)
    after_two = output_of(
        run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=two)[0], inputs
    )
    assert distance(after_two, output_of(sd15.model, inputs)) > 1e-4
    assert distance(private_output(privately["backend"], inputs), after_two) < 1e-5
    assert distance(output_of(applied, inputs), after_two) < 1e-5
    assert all(torch.equal(again.delta[name], two.delta[name]) for name in two.delta)


def test_all_stages_in_one_node_equal_three_nodes(sd15, run, chain, monkeypatch):
    from attndreambooth.attndb import config

    def small() -> Any:
        return tuple(
            stage.with_(steps=2, batch_size=2, optimizer=config.OptimizerConfig(learning_rate=rate))
            for stage, (_, rate) in zip(config.paper(), STAGES.values(), strict=True)
        )

    monkeypatch.setitem(config.PRESETS, "paper", small)
    concept, model, clip, _, losses = run(
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


# ---- other checkpoints


def test_an_fp16_file_trains_and_applies_within_rounding(home, train, privately):
    wires = load(make_checkpoint("sd15", dtype=torch.float16))
    before = snapshot(wires)
    _, applied, *_ = train(3, wires)
    inputs = example(768)
    trained = private_output(privately["backend"], inputs)
    dtype = wires.model.model.get_dtype()
    assert distance(output_of(applied, inputs), trained) < (1e-5 if dtype.itemsize == 4 else 1e-2)
    output_of(wires.model, inputs)
    assert snapshot(wires)["model weights"] == before["model weights"]


def test_half_precision_weights_on_the_wire_are_trained_in_fp32(home, train, privately):
    import comfy.sd
    import folder_paths

    path = make_checkpoint("sd15", dtype=torch.float16)
    model, clip, vae = comfy.sd.load_checkpoint_guess_config(
        str(path),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        model_options={"dtype": torch.float16},
    )[:3]
    from support.stages import Wires

    assert model.model.get_dtype() == torch.float16
    concept, applied, *_ = train(3, Wires(model, clip, vae))
    assert {p.dtype for p in privately["backend"].unet.parameters()} == {torch.float32}
    assert {value.dtype for value in concept.delta.values()} == {torch.float16}
    inputs = example(768)
    trained = private_output(privately["backend"], inputs)
    half = tuple(x.half() if x.is_floating_point() else x for x in inputs)
    assert distance(output_of(applied, half).float(), trained) < 2e-2


def test_a_velocity_checkpoint_is_trained_as_one(home, train, privately):
    wires = load(make_checkpoint("sd21v", dtype=torch.float32))
    concept, applied, *_ = train(3, wires)
    backend = privately["backend"]
    assert backend.diffusion.prediction_type == "v"
    assert concept.base_family == "SD 2.1-768"
    inputs = example(1024)
    assert distance(output_of(applied, inputs), private_output(backend, inputs)) < 1e-5


def test_a_model_told_to_predict_velocity_is_trained_so(sd15, train, privately):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    told = ModelSamplingDiscrete().patch(sd15.model, "v_prediction", True)[0]
    train(1, type(sd15)(told, sd15.clip, sd15.vae), steps=0)
    diffusion = privately["backend"].diffusion
    assert diffusion.prediction_type == "v"
    assert float(diffusion.alphas_cumprod[-1]) < 1e-6  # zero terminal signal, as asked for


def test_an_sd21_base_checkpoint_is_trained_on_noise(sd21, train, privately):
    concept, applied, *_ = train(2, sd21)
    backend = privately["backend"]
    assert backend.diffusion.prediction_type == "epsilon"
    assert (concept.base_family, concept.text_key) == ("SD 2.1-base", "clip_h")
    inputs = example(1024)
    assert distance(output_of(applied, inputs), private_output(backend, inputs)) < 1e-5


def test_a_stage_without_a_concept_says_that_it_is_an_ablation(sd15, train, caplog):
    with caplog.at_level(logging.WARNING):
        concept, *_ = train(2, sd15, steps=0)
    assert "no concept connected" in caplog.text and "'person'" in caplog.text
    table = sd15.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    torch.testing.assert_close(concept.vectors[0], table[2533].float())
