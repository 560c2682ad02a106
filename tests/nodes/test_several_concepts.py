"""Several concepts of one model with strengths of their own, on a stock LoRA, under ControlNet."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from support.stages import encode

from attndreambooth.devkit.wires import control_net

STRENGTHS = {"<astro>": 0.7, "<robot>": 0.45, "<bag>": 1.2}
KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k"


@pytest.fixture
def concepts(trained):
    """Three subjects; the changes are as large as those of the trained one."""
    made = [trained]
    for seed, word in enumerate(list(STRENGTHS)[1:]):
        grain = torch.Generator().manual_seed(seed)
        noise = {
            name: value.std() * torch.randn(value.shape, generator=grain)
            for name, value in trained.delta.items()
        }
        vectors = trained.vectors + 0.1 * torch.randn(trained.vectors.shape, generator=grain)
        made.append(dataclasses.replace(trained, placeholder=word, vectors=vectors, delta=noise))
    return made


@pytest.fixture
def lora(home, sd15):
    weight = sd15.model.model.state_dict()[f"{KEY}.weight"]
    grain = torch.Generator().manual_seed(4)
    down = torch.randn(2, weight.shape[1], generator=grain)
    up = torch.randn(weight.shape[0], 2, generator=grain)
    path = home / "loras" / "under.safetensors"
    save_file({f"{KEY}.lora_down.weight": down, f"{KEY}.lora_up.weight": up}, path)
    return path.name


def applied(run, wires, lora, concepts):
    """A stock LoRA, then these concepts in their order."""
    import nodes

    model, clip = nodes.LoraLoader().load_lora(wires.model, wires.clip, lora, 0.8, 0.0)
    for concept in concepts:
        model, clip, _ = run(
            "AttnDBApplyConcept",
            **{"model": model, "clip": clip, "concept": concept},
            strength=STRENGTHS[concept.placeholder],
        )
    return model, clip


def drawn(wires, model, clip, controlled):
    """Three steps of the stock sampler on a prompt with all three words."""
    import nodes

    text = "<astro> person beside a <robot> person with a <bag> person"
    asked, not_asked = (nodes.CLIPTextEncode().encode(clip, part)[0] for part in (text, "blurry"))
    if controlled:
        net = control_net(wires)
        hint = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
        asked, not_asked = nodes.ControlNetApplyAdvanced().apply_controlnet(
            asked, not_asked, net, hint, 1.0, 0.0, 1.0
        )
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    return nodes.KSampler().sample(
        model, 5, 3, 4.0, "euler", "normal", asked, not_asked, latent, 1.0
    )[0]["samples"]


@pytest.mark.parametrize("controlled", [False, True], ids=["alone", "ControlNet"])
def test_their_order_changes_nothing(sd15, run, concepts, lora, controlled):
    one, two, three = concepts
    pictures = [
        drawn(sd15, *applied(run, sd15, lora, order), controlled)
        for order in ([one, two, three], [three, one, two], [two, three, one])
    ]
    without = drawn(sd15, *applied(run, sd15, lora, [one, two]), controlled)
    size = pictures[0].abs().max().item()
    assert not torch.allclose(without, pictures[0], rtol=0, atol=1e-2 * size)
    for picture in pictures[1:]:
        assert torch.allclose(picture, pictures[0], rtol=0, atol=1e-5 * size)


def test_each_word_is_that_of_its_concept_alone(sd15, run, concepts, lora):
    _, clip = applied(run, sd15, lora, concepts)
    for concept in concepts:
        text = f"a {concept.placeholder} person"
        assert torch.equal(encode(clip, text), encode(applied(run, sd15, lora, [concept])[1], text))


def test_weights_are_the_sum_of_all_at_their_strengths(sd15, run, concepts, lora):
    """Against the sum by hand, in fp64."""
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    plain, summed = (
        merged_weights(applied(run, sd15, lora, these)[0], UNET_PREFIX) for these in ([], concepts)
    )
    for name in concepts[0].delta:
        change = sum(STRENGTHS[c.placeholder] * c.delta[name].double() for c in concepts)
        expected = plain[name].double() + change
        torch.testing.assert_close(summed[name].double(), expected, rtol=0, atol=1e-6)
