"""A MODEL in fp8 with scales, as ComfyUI writes and loads it: read, trained, drawn."""

from __future__ import annotations

import json

import pytest
import torch
from support.stages import Wires

FORMAT = "float8_e4m3fn"


def quantized(plain):
    """The same U-Net with its linear layers quantized, and what of each value is lost."""
    import comfy.model_patcher

    from attndreambooth.devkit import small_models
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    unet = plain.model.diffusion_model
    linear = {n for n, module in unet.named_modules() if isinstance(module, torch.nn.Linear)}
    settings = torch.tensor(list(json.dumps({"format": FORMAT}).encode()), dtype=torch.uint8)
    state = {}
    # not the module's own state: the host leaves in it what the last picture was drawn with
    for name, value in merged_weights(plain, UNET_PREFIX).items():
        layer, _, kind = name.rpartition(".")
        if layer not in linear or kind != "weight":
            state[name] = value
            continue
        scale = value.abs().max() / torch.finfo(torch.float8_e4m3fn).max
        state[name] = (value / scale).to(torch.float8_e4m3fn)
        state |= {f"{layer}.weight_scale": scale, f"{layer}.comfy_quant": settings}
        state[f"{layer}.input_scale"] = torch.ones(())
    family = small_models._family("sd15", None)
    family.quant_config = {"mixed_ops": True}
    family.set_inference_dtype(torch.float32, torch.float32)
    model = family.get_model({}, "", device=torch.device("cpu"))
    model.diffusion_model.load_state_dict(state)
    return comfy.model_patcher.ModelPatcher(model, plain.load_device, plain.offload_device)


@pytest.fixture(scope="module")
def scaled(sd15):
    """Wires with such a MODEL."""
    with torch.inference_mode():
        return Wires(quantized(sd15.model), sd15.clip, sd15.vae)


def test_weights_are_read_without_their_scales_and_patches_are_merged(sd15, scaled):
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    name = "input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"
    base, read = (merged_weights(w.model, UNET_PREFIX) for w in (sd15, scaled))
    assert base.keys() == read.keys()
    for key, value in base.items():
        assert float((read[key] - value).norm()) <= 0.04 * float(value.norm()), key
    assert not torch.equal(base[name], read[name])
    patched = scaled.model.clone()
    patched.add_patches({UNET_PREFIX + name: ("diff", (torch.ones_like(base[name]),))}, 0.5)
    torch.testing.assert_close(merged_weights(patched, UNET_PREFIX)[name], read[name] + 0.5)


def test_its_layers_are_known_by_the_same_names_and_shapes(sd15, scaled):
    from attndreambooth.nodes.host.model.diffusers_names import diffusers_places
    from attndreambooth.nodes.host.model.weights import weight_shapes

    assert diffusers_places(scaled.model) == diffusers_places(sd15.model)
    assert weight_shapes(scaled.model) == weight_shapes(sd15.model)


def test_it_is_trained_and_the_concept_is_applied(run, train, scaled, chain):
    concept, model, _, _, losses = train(2, scaled, train(1, scaled)[0])
    assert all(torch.tensor(losses["loss"]).isfinite()) and concept.delta
    again = run("AttnDBApplyConcept", model=scaled.model, clip=scaled.clip, concept=concept)
    assert again[0].patches.keys() == model.patches.keys()
