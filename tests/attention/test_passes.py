"""Calls of the model that are not one drawing step on the whole picture."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.attention.capture import Capture
from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.attndb.attention.word_maps import MapSelection
from attndreambooth.devkit.captured import NEGATIVE, TEXT, assert_maps, capture
from attndreambooth.devkit.joint_models import joint_conditioning, small_joint_model
from attndreambooth.devkit.wires import Calls, Loaded, Oracle

pytestmark = pytest.mark.host


def guided(node, *args):
    return node.execute(*args).args[0]


def test_a_pass_with_perturbed_attention_is_not_counted(sd15):
    """Perturbed Attention Guidance asks for the prompt again, with a damaged U-Net, to lead away
    from what that draws."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    model, handle, positive = capture(sd15)
    calls = Calls()
    watched = guided(PerturbedAttentionGuidance, calls.watch(model), 3.0)
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(watched, positive, sd15.encode(NEGATIVE), steps=2)
    assert [len(order) for order in calls.order] == [2, 1, 2, 1]
    for name, weights in oracle.weights.items():
        oracle.weights[name] = weights[::2]
    rows = [slice(order.index(0), order.index(0) + 1) for order in calls.order[::2]]
    assert_maps(handle.find(drawn)[0], oracle, rows)


def test_a_pass_with_blurred_attention_is_not_counted(sd15):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    model, handle, _ = capture(sd15, NEGATIVE)
    watched = guided(SelfAttentionGuidance, model, 0.5, 2.0)
    drawn = sd15.draw(watched, sd15.encode(TEXT), sd15.encode(NEGATIVE), steps=2)
    assert all(found.count.sum() == 2 for found in handle.find(drawn)[0].sums.values())


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_a_pass_with_skipped_layers_is_not_counted(host, kind):
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    from attndreambooth.nodes.host.capture.capture import capture_model

    model, positive = small_joint_model(kind), joint_conditioning(1, 9)
    handle = Capture(prompt="a cat", words=[Word(label="cat", columns=(2,))], slices=1)
    captured = capture_model(model, handle, positive)
    guided_model = guided(SkipLayerGuidanceDiT, captured, 3.0, 0.0, 1.0, "0")
    latent = {"samples": torch.zeros(1, 16, 6, 10)}
    drawn = Loaded(model, None, None).draw(
        guided_model, positive, joint_conditioning(2, 9), latent=latent, scheduler="simple"
    )
    assert all(found.count.sum() == 2 for found in handle.find(drawn)[0].sums.values())


def test_a_tile_is_not_taken_for_the_picture(sd15):
    """Tiled diffusion nodes call the model with parts of the latent."""

    def tiles(apply_model, args):
        x, t, c = args["input"], args["timestep"], args["c"]
        left, right = (apply_model(part, t, **c) for part in x.split([4, 8], dim=3))
        return torch.cat([left, right], dim=3)

    model, handle, positive = capture(sd15)
    model = model.clone()
    model.set_model_unet_function_wrapper(tiles)
    drawn = sd15.draw(model, positive, sd15.encode(NEGATIVE), size=(8, 12))
    record, note = handle.find(drawn)
    assert record.sums == {} and "cuts the picture or the batch into parts" in note
    with pytest.raises(ValueError, match=r"nothing was recorded\. Another node cuts the picture"):
        handle.maps(drawn, MapSelection())
