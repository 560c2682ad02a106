"""Drawing on a pretended card: every tensor is where it has to be, and the values are the CPU's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.stages import Wires, dataset, photos

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.devkit.kinds_of_card import KINDS
from attndreambooth.devkit.pretend_card import CARD, OnCard, pretend_card

PROMPT = "a photo of a <astro> person"
IN_PARTS, GPU_ONLY = {"free": 1 << 20}, {"gpu_only": True}
"""So little memory that the host leaves most weights where they are; wires that lie on the card."""
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a real card is there")

PICTURE = {"steps": 1, "cfg": 4.0, "width": 64, "height": 64, "cell_size": 64}


@pytest.fixture(scope="module")
def trained(sd15) -> TrainedConcept:
    """A concept of random changes."""
    chance = torch.Generator().manual_seed(0)
    delta = {
        name.removeprefix("diffusion_model."): 0.05 * value.std() * noise
        for name, value in sd15.model.model.state_dict().items()
        if ".attn2." in name and name.endswith("weight")
        for noise in [torch.randn(value.shape, generator=chance)]
    }
    return TrainedConcept(
        placeholder="<astro>",
        category="person",
        text_key="clip_l",
        vectors=torch.randn(1, 64, generator=chance),
        delta=delta,
        base_family="SD 1.5",
    )


@pytest.fixture(scope="module")
def compared(run, sd15, tmp_path_factory) -> Callable[[str], TrainedConcept]:
    """A concept of another method, trained for a step on the CPU."""
    import folder_paths

    def train(name: str, **own: Any) -> TrainedConcept:
        folder_paths.set_output_directory(str(tmp_path_factory.mktemp(name)))
        method = {"method": name, "steps": 1, "learning_rate": 1e-2, "batch_size": 1, **own}
        method["templates"] = "dataset"
        shared = {"resolution": 64, "augmentation": "none", "dataset": dataset(run)}
        return run("AttnDBTrainComparedMethod", **sd15.named(), **shared, method=method)[0]

    return train


def held(found: Any) -> Any:
    """A result, its tensors on the CPU."""
    if isinstance(found, OnCard):
        return found.held
    return [held(one) for one in found] if isinstance(found, (list, tuple)) else found


def alike(do: Callable[[Wires], Any], here: Wires, there: Wires, near: float = 1e-3, **how: Any):
    """What it gives on the card; AssertionError unless the CPU gives the same."""
    expected = do(here)
    with pretend_card(**how):
        found = do(there)
    torch.testing.assert_close(held(found), held(expected), rtol=near, atol=near)
    return found


def sampled(model: Any, positive: Any, negative: Any, side: int = 8) -> torch.Tensor:
    import nodes

    pair, latent = (positive, negative), {"samples": torch.zeros(1, 4, side, side)}
    node = nodes.KSampler()
    return node.sample(model, 5, 2, 3.0, "euler", "normal", *pair, latent, 1.0)[0]["samples"]


def encoded(clip: Any, *texts: str) -> list[Any]:
    import nodes

    return [nodes.CLIPTextEncode().encode(clip, text)[0] for text in texts]


def looked_at(run, concept: TrainedConcept, **applied: Any) -> Callable[[Wires], Any]:
    """A picture of a concept, and where its words looked."""

    def drawn(wires: Wires) -> Any:
        import nodes

        photo = {}
        if any("to_" in name or "attn" in name for name in concept.modules):
            photo = {"reference": nodes.VAEEncode().encode(wires.vae, photos()[:1])[0]}
        two = {"model": wires.model, "clip": wires.clip}
        model, clip, _ = run("AttnDBApplyConcept", **two, concept=concept, **applied, **photo)
        two = {"model": model, "clip": clip}
        model, handle, _ = run("AttnDBCaptureAttention", **two, text=PROMPT, keep_heads=True)
        samples = sampled(model, *encoded(clip, PROMPT, "bad"))
        [image] = nodes.VAEDecode().decode(wires.vae, {"samples": samples})
        shown = {"normalization": "shared", "layers": "all", "mask_output": "soft"}
        mask = torch.ones(1, 64, 64).to(samples.device)  # as the host's nodes make it of a picture
        shown |= {"image": image, "mask": mask, "other_word": "photo"}
        what = {"capture": handle, "samples": {"samples": samples}}
        _, mask, maps, *numbers = run("AttnDBAttentionMaps", **what, **shown)
        [figure] = run("AttnDBCompareAttention", maps_1=maps, maps_2=maps)
        assert figure.device.type == "cpu"
        return samples / 100, mask, numbers[:4]  # random weights draw large values

    return drawn


@pytest.mark.parametrize("card", KINDS, indirect=True)
def test_it_raises_where_a_card_does(host, card):
    with pretend_card(kind=card), torch.inference_mode():
        there, here = torch.ones(2, 3, device=card.name), torch.ones(2, 3)
        assert (there + torch.tensor(1.0)).device == card.device
        assert there[torch.tensor([1])].device == card.device
        assert float(there.sum()) == 6.0 and there.cpu().numpy().sum() == 6.0
        assert torch.equal(here.copy_(there), here) and there.to(here).device.type == "cpu"
        for wrong in (
            lambda: there + here,
            lambda: here.add_(there.sum()),
            lambda: torch.cat([there, here]),
            lambda: here[torch.tensor([1], device=card.name)],
            lambda: torch.stack([there[0, 0], here[0, 0]]),
            lambda: torch.nn.Linear(3, 3)(there),
        ):
            with pytest.raises(RuntimeError, match=r"devices|should be either on cpu"):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        layer = torch.nn.Linear(3, 2)
        weight = layer.weight
        assert layer.to(card.name).weight is weight and layer(there).device == card.device


@pytest.mark.parametrize("card", ["mps"], indirect=True)
def test_what_apple_s_gpus_have_not_is_refused(host, card):
    with pretend_card(kind=card):
        there, place = torch.ones(2, device="mps"), torch.tensor([1], device="mps")
        assert there.device == torch.device("mps", 0) != torch.device("mps")
        for wrong in (
            there.double,
            lambda: torch.ones(2, dtype=torch.float64).to("mps"),
            lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
            lambda: there.sum(dtype=torch.float64),
        ):
            with pytest.raises(TypeError, match="float64"):
                wrong()
        with pytest.raises(NotImplementedError, match=r"aten::take.* for the MPS device"):
            torch.take(there, place)
        assert float(torch.histc(there, bins=2, min=0, max=2)[1]) == 2.0
        with torch.autocast("mps", dtype=torch.bfloat16):
            assert (there[None] @ there[:, None]).dtype == torch.bfloat16
        with pytest.raises(AssertionError, match="not compiled with CUDA"):
            torch.cuda.get_device_name(0)


@pytest.mark.parametrize("card", ["mps", "xpu"], indirect=True)
def test_a_mask_of_attention_hides_what_it_says(host, card):
    chance = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 8, generator=chance) for _ in range(3))
    keep = torch.tensor([True, False, True, True, False])[None, None, None]
    attend = torch.nn.functional.scaled_dot_product_attention
    expected = attend(q, k, v, attn_mask=keep)
    with pretend_card(kind=card), torch.no_grad():
        attend = torch.nn.functional.scaled_dot_product_attention
        found: Any = attend(*(one.to(card.name) for one in (q, k, v)), attn_mask=keep.to(card.name))
    torch.testing.assert_close(found.held, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("card", "how"),
    [
        pytest.param("cuda", {}, id="whole"),
        pytest.param("cuda", IN_PARTS, id="in parts"),
        pytest.param("cuda", GPU_ONLY, id="gpu only"),
        pytest.param("mps", {}, id="mps"),
        pytest.param("mps", GPU_ONLY, id="mps, gpu only"),
        pytest.param("xpu", IN_PARTS, id="xpu, in parts"),
    ],
    indirect=["card"],
)
def test_a_corrected_concept_is_drawn_and_looked_at(run, sd15, sd15_there, trained, card, how):
    drawn = looked_at(run, trained, correction=0.3)
    samples, *_ = alike(drawn, sd15, sd15_there, kind=card, **how)
    assert isinstance(samples, OnCard) == bool(how.get("gpu_only"))


OWN = {
    "NeTI": {"bypass": True, "nested_dropout": 0.5},
    "ViCo": {"image_learning_rate": 1e-3, "map_weight": 5e-4},
}


@pytest.mark.parametrize("name", OWN)
def test_a_word_of_every_layer_and_a_photo_are_on_the_card(run, sd15, sd15_there, compared, name):
    concept = compared(name, **OWN[name])
    alike(looked_at(run, concept), sd15, sd15_there, **IN_PARTS)


@pytest.mark.parametrize("card", ["cuda", "mps"], indirect=True)
def test_a_model_in_fp16_draws_nearly_the_same(run, sd15, sd15_there, trained, card):
    from attndreambooth.devkit.small_models import small_model, small_vae

    with pretend_card(half=True, kind=card):
        half = Wires(small_model("sd15", dtype=torch.float16), sd15_there.clip, small_vae())
        assert half.model.model.get_dtype() == torch.float16
        assert half.vae.vae_dtype == torch.bfloat16
    how = {"half": True, "kind": card, **GPU_ONLY}
    alike(looked_at(run, trained), sd15, half, near=0.05, **how)


def test_regions_and_hooks_are_drawn(run, sd15, sd15_there, trained):
    record = {**trained.record, "photos": [{"name": "robot.png", "sha256": "0" * 64}]}
    other = dataclasses.replace(trained, placeholder="<robo>", record=record)

    def drawn(wires: Wires) -> Any:
        pair = run("AttnDBConceptInRegion", clip=wires.clip, concept=trained)
        before = dict(zip(("positive", "negative"), pair, strict=True))
        own = {"concept": other, "left": 0.5, "canvas": "picture"}
        return sampled(
            wires.model, *run("AttnDBConceptInRegion", clip=wires.clip, **own, **before), side=16
        )

    alike(drawn, sd15, sd15_there)


def test_a_model_that_is_half_on_the_card_is_read_as_it_is(run, sd15, sd15_there, trained):
    from attndreambooth.nodes.host.model.digests import text_digest
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    def read(wires: Wires) -> Any:
        model = run("AttnDBApplyConcept", **pair(wires), concept=trained)[0]
        if wires is sd15_there:
            sampled(model, *encoded(wires.clip, PROMPT, "bad"))
            layers = [m for m in model.model.modules() if hasattr(m, "weight_function")]
            assert any(m.weight_function for m in layers), "patches wait for the weights' turn"
        found = merged_weights(model, UNET_PREFIX)
        assert {value.device.type for value in found.values()} == {"cpu"}
        return [found[name] for name in sorted(found)], text_digest(wires.clip)

    def pair(wires: Wires) -> dict[str, Any]:
        return {"model": wires.model, "clip": wires.clip}

    expected, text = read(sd15)
    with pretend_card(**IN_PARTS):
        found, same = read(sd15_there)
    assert same == text
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("card", ["cuda", "mps"], indirect=True)
def test_masks_and_scores_are_the_cpus(run, sd15, sd15_there, trained, card):
    encoder = run("AttnDBLoadImageEncoder", encoder="toy model")[0]

    def scored(wires: Wires) -> Any:
        given = photos(2).to(card.device if wires is sd15_there else "cpu")
        masks = run("AttnDBMaskSubject", **wires.named(), images=given, category="person")[0]
        own = {"concepts": {"concept_0": [trained]}, "prompts": "a {} in the snow"}
        judged = {"encoders": {"encoder_0": encoder}, "photos": given}
        both = {**wires.named(), **own, **PICTURE}
        _, _, _, scores, pictures = run("AttnDBEvaluateConcept", **both, **judged)
        assert run("AttnDBCompareConcepts", **both)[0]
        own = {"images": given, "prompt": "a person", "category": "person"}
        cut = {"masks": given[..., 0], "photo_masks": given[..., 1]}
        *_, identity, text = run("AttnDBScoreImages", **judged, **own, **cut)
        assert {mask.device.type for mask in masks} == {"cpu"}
        return [row.value("identity") for row in scores], pictures, identity, text

    alike(scored, sd15, sd15_there, near=0.02, kind=card, **GPU_ONLY)


def test_the_regulariser_of_the_stock_trainer_meets_its_words_there(run, sd15_there, monkeypatch):
    from attndreambooth.nodes.host.capture import stock_training

    found = []
    monkeypatch.setattr(
        stock_training, "with_gradient_of", lambda loss, q, k: (found.append(loss(q, k)), k)[1]
    )
    monkeypatch.setattr(torch, "is_grad_enabled", lambda: True)
    monkeypatch.setattr(stock_training, "_trains", lambda sampler: True)
    with pretend_card(**GPU_ONLY):
        words = {"text": "a photo of a sks robot", "token": "sks", "category": "robot"}
        values = {"model": sd15_there.model, "clip": sd15_there.clip, "mean_weight": 2.0, **words}
        values |= {"variance_weight": 5.0}
        model, [positive] = run(
            "AttnDBRegularizeTrainLora", **{name: [value] for name, value in values.items()}
        )
        sampled(model, positive, positive)
    assert found and {loss.device for loss in found} == {CARD}
