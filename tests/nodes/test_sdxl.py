"""SDXL: one placeholder in two text encoders, pooled text and sizes, the stages and their files."""

from __future__ import annotations

import logging

import pytest
import torch
from support.comparing import snapshot
from support.stages import STAGES, Wires, dataset, draw, photos, refuses, small

from attndreambooth.devkit.small_models import small_model

PROMPT = "a photo of a <astro> person on the beach"


@pytest.fixture(scope="module")
def sdxl(home) -> Wires:
    """A small SDXL."""
    return small("sdxl")


@pytest.fixture(scope="module")
def trained(sdxl, run, tmp_path_factory):
    """The results of the three stages, and the wires as they were before."""
    import folder_paths

    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("output")))
    before, results = snapshot(sdxl), []
    with torch.inference_mode():
        for node, rate in STAGES.values():
            concept = results[-1][0] if results else None
            more = {} if concept is None else {"concept": concept}
            results.append(
                run(
                    node,
                    **sdxl.named(),
                    dataset=dataset(run),
                    steps=2,
                    batch_size=2,
                    learning_rate=rate,
                    resolution=64,
                    **more,
                )
            )
    return before, results


def named(wires: Wires, name: str) -> list[str]:
    """Parameters of the U-Net whose name holds `name`."""
    return [n for n, _ in wires.model.model.diffusion_model.named_parameters() if name in n]


def conditioning(clip, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Text states and pooled text by the stock CLIPTextEncode."""
    import nodes

    [[states, more]] = nodes.CLIPTextEncode().encode(clip, text)[0]
    return states, more["pooled_output"]


def test_each_stage_trains_its_part_and_leaves_the_wires_as_they_were(sdxl, trained):
    before, [(one, *_), (two, *_), (three, *_)] = trained
    assert snapshot(sdxl) == before
    tables = {
        name: getattr(sdxl.clip.cond_stage_model, name).transformer.get_input_embeddings().weight
        for name in ("clip_l", "clip_g")
    }
    assert {n: v.shape for n, v in one.embeddings.items()} == {"clip_l": (1, 64), "clip_g": (1, 96)}
    for name, vectors in one.embeddings.items():
        moved = (vectors[0] - tables[name][2533].float()).abs().max()  # "person"
        assert 1e-3 < moved < 0.1, name  # Adam at 1e-2, two steps
    assert not one.delta
    assert len(named(sdxl, "attn2.to_q.weight")) == 11
    assert set(two.delta) == set(named(sdxl, ".attn2."))
    assert set(three.delta) == set(named(sdxl, ""))
    assert all(bool(value.any()) for name, value in two.delta.items() if "to_out.0.bias" in name)
    assert bool(three.delta["label_emb.0.0.weight"].any())  # sizes and pooled text
    for name in ("clip_l", "clip_g"):
        assert torch.equal(two.embeddings[name], one.embeddings[name])
        assert torch.equal(three.embeddings[name], one.embeddings[name])
    assert one.base_family == "SDXL" and three.trigger == "<astro> person"
    assert len(three.record["stages"]) == 3


def test_a_training_sees_the_text_that_the_stock_node_encodes_and_the_sizes_of_its_crops(
    sdxl, run, train, trained, monkeypatch
):
    from attndreambooth.nodes.host.model.private_model import PrivateModel

    seen, plain = [], PrivateModel.denoise

    def denoise(self, z_t, t, told):
        if not z_t.is_meta:  # the estimate's
            seen.append(told)
        return plain(self, z_t, t, told)

    monkeypatch.setattr(PrivateModel, "denoise", denoise)
    one, _, clip, *_ = trained[1][0]
    data = dataset(run, template="a photo of a {}")
    train(2, sdxl, one, steps=1, dataset=data, augmentation="none")
    [told] = seen
    states, pooled = conditioning(clip, "a photo of a <astro> person")
    assert torch.equal(torch.cat(list(told.text.values()), dim=-1)[:1], states)
    assert torch.equal(told.pooled[:1], pooled)
    side = float(photos().shape[1])
    assert told.sizes.tolist() == [[side, side, 0.0, 0.0, 64.0, 64.0]] * 2


def test_what_is_drawn_is_what_was_trained(sdxl, run, train, privately, trained):
    import comfy.model_management

    two = trained[1][1][0]
    concept, model, *_ = train(3, sdxl, two)
    backend = privately["backend"]
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(2, *s, generator=generator) for s in ((4, 8, 8), (77, 160)))
    y = torch.randn(2, 96 + 6 * 256, generator=generator)
    more = {"context": context, "y": y, "transformer_options": {}}
    t = torch.tensor([20, 700])
    trained_output = backend.unet(x, t, **more)
    comfy.model_management.load_models_gpu([model], force_patch_weights=True)
    drawn = model.model.diffusion_model(x, t, **more)
    assert (drawn - trained_output).abs().max() / trained_output.abs().max() < 1e-5
    base = {**sdxl.named(), "concept": concept, "strength": 0.0}
    base.pop("vae")
    untouched, clip, _ = run("AttnDBApplyConcept", **base)
    assert torch.equal(draw(untouched, clip, PROMPT), draw(sdxl.model, clip, PROMPT))
    assert not torch.equal(draw(model, clip, PROMPT), draw(sdxl.model, clip, PROMPT))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_weights_are_trained_in_fp32_and_drawn_in_their_own(
    sdxl, train, privately, dtype
):
    model = small_model("sdxl", dtype=dtype)
    assert model.model.get_dtype() == dtype
    concept, applied, clip, *_ = train(3, Wires(model, sdxl.clip, sdxl.vae))
    assert {p.dtype for p in privately["backend"].unet.parameters()} == {torch.float32}
    assert {value.dtype for value in concept.delta.values()} == {torch.float16}
    with_it, without = draw(applied, clip, PROMPT), draw(model, clip, PROMPT)
    assert with_it.isfinite().all() and not torch.equal(with_it, without)


def test_the_saved_files_work_in_the_stock_nodes(sdxl, run, trained, home):
    import folder_paths
    import nodes
    from safetensors import safe_open

    concept = trained[1][2][0]
    name, _ = run("AttnDBSaveConcept", concept=concept, name="xl-astro", metadata="for managers")
    with safe_open(folder_paths.get_full_path("embeddings", f"{name}.safetensors"), "pt") as file:
        shapes = {key: tuple(file.get_tensor(key).shape) for key in file.keys()}
        assert file.metadata()["modelspec.architecture"] == (
            "stable-diffusion-xl-v1-base/textual-inversion"
        )
        assert file.metadata()["ss_base_model_version"] == "sdxl_base_v1-0"
    assert shapes == {"clip_l": (1, 64), "clip_g": (1, 96)}
    model, clip, _ = run("AttnDBApplyConcept", model=sdxl.model, clip=sdxl.clip, concept=concept)
    spelt = PROMPT.replace("<astro>", f"embedding:{name}")
    for ours, theirs in zip(
        conditioning(clip, PROMPT), conditioning(sdxl.clip, spelt), strict=True
    ):
        assert torch.equal(ours, theirs)
    stock, _ = nodes.LoraLoader().load_lora(sdxl.model, sdxl.clip, f"{name}.safetensors", 1.0, 0.0)
    assert torch.equal(draw(stock, sdxl.clip, spelt), draw(model, clip, PROMPT))
    again, trigger = run("AttnDBLoadConcept", name=name)
    assert again.digest() == concept.digest() and trigger == "<astro> person"
    assert list(again.embeddings) == ["clip_l", "clip_g"]


def test_a_lora_is_trained_and_one_is_extracted(sdxl, run, train, trained):
    options = run("AttnDBTrainingOptions", lora_rank=2)[0]
    two, three = trained[1][1][0], trained[1][2][0]
    thin = train(3, sdxl, two, options=options)[0]
    assert set(thin.delta) > set(two.delta)
    extracted, *_ = run("AttnDBExtractLoRA", concept=three, rank=4)
    assert torch.equal(extracted.embeddings["clip_g"], three.embeddings["clip_g"])
    model, clip, _ = run("AttnDBApplyConcept", model=sdxl.model, clip=sdxl.clip, concept=extracted)
    assert draw(model, clip, PROMPT).isfinite().all()


def test_previews_and_attention_maps_change_nothing(sdxl, run, train, trained, output):
    preview = run("AttnDBTrainingPreview", every=1, steps=1, width=64, height=64)[0]
    watched = train(1, sdxl, preview=preview, seed=0)[0]
    assert watched.digest() == trained[1][0][0].digest()
    assert len(list(output.rglob("previews/*.png"))) == 2
    assert list(output.rglob("attention/maps.png"))


def test_a_correction_turns_the_vectors_of_both_encoders(sdxl, run, trained):
    concept = trained[1][0][0]
    wires = {"model": sdxl.model, "clip": sdxl.clip, "concept": concept}
    _, turned, _ = run("AttnDBApplyConcept", **wires, correction=1.0)
    known = turned.tokenizer.attndb_known["<astro>"].embeddings
    for name, vectors in known.items():
        table = getattr(sdxl.clip.cond_stage_model, name).transformer.get_input_embeddings().weight
        torch.testing.assert_close(vectors[0], table[2533].float())


def test_prior_images_and_what_holds_to_the_base_train_as_well(sdxl, run, train, trained):
    prior = run(
        "AttnDBAddPriorImages",
        dataset=dataset(run),
        images=photos(2) * 0.5,
        prompt="a photo of a {}",
    )[0]
    options = run("AttnDBTrainingOptions", weight_anchor=0.1, prior_prediction=0.5)[0]
    concept = train(2, sdxl, trained[1][0][0], steps=1, dataset=prior, options=options)[0]
    [loss] = concept.record["stages"][-1]["losses"]
    assert len(loss) == 5 and all(part > 0 for part in (loss[0], loss[1], loss[2]))


def test_small_pictures_are_warned_of(sdxl, train, caplog):
    with caplog.at_level(logging.WARNING):
        train(1, sdxl, steps=0, resolution=512)
    assert "MODEL is SDXL, which was made at 1024 px, and resolution is 512" in caplog.text


def test_wires_that_do_not_belong_together_are_refused(sdxl, sd15, train, trained, chain):
    with refuses(
        r"Stage 1.*MODEL \(SDXL\) reads two text encoders, clip_l and clip_g, and this "
        r"CLIP is clip_l alone \(width 64\).*DualCLIPLoader"
    ):
        train(1, Wires(sdxl.model, sd15.clip, sdxl.vae))
    with refuses(r"Stage 1.*MODEL \(SD 1\.5\) reads text of width 64, and this CLIP gives 160"):
        train(1, Wires(sd15.model, sdxl.clip, sdxl.vae))
    with refuses(r"<astro> was trained for SD 1\.5.*this MODEL is SDXL"):
        train(2, sdxl, chain[0])
    with refuses(r"<astro> was trained for SDXL.*this MODEL is SD 1\.5"):
        train(2, sd15, trained[1][0][0])


def test_a_half_without_weights_is_refused(sdxl, train, monkeypatch):
    table = sdxl.clip.cond_stage_model.clip_g.transformer.get_input_embeddings()
    before = table.weight
    blank = torch.nn.Parameter(torch.zeros_like(before), requires_grad=False)
    monkeypatch.setattr(table, "weight", blank)
    with refuses("Stage 1.*CLIP lacks its half clip_g: the file it was loaded from"):
        train(1, sdxl)
    table.weight = before


@pytest.mark.parametrize(
    ("name", "told"),
    [("SDXLRefiner", "SDXL refiner"), ("SDXL_instructpix2pix", "instruct pix2pix")],
)
def test_other_models_of_the_family_are_refused_by_name(sdxl, train, monkeypatch, name, told):
    import comfy.model_base
    import comfy.supported_models

    base = sdxl.model.model
    monkeypatch.setattr(base, "model_config", getattr(comfy.supported_models, name)({}))
    monkeypatch.setattr(base, "__class__", getattr(comfy.model_base, name))
    with refuses(rf"MODEL is .*{told}, which cannot be trained here\. Supported: .*SDXL"):
        train(1, sdxl)


def test_an_inpainting_checkpoint_is_refused_as_one(sdxl, train, monkeypatch):
    monkeypatch.setattr(sdxl.model.model, "concat_keys", ("mask", "masked_image"), raising=False)
    with refuses("MODEL is SDXL inpainting, which cannot be trained"):
        train(1, sdxl)
