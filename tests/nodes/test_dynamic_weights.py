"""The patcher that newer hosts use on cards, through its own class: its weights are the wire's."""

from __future__ import annotations

import gc
import types
from unittest import mock

import pytest
import torch

from attndreambooth.devkit.small_models import small_model

CARD = torch.device("cuda", 0)
KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"


@pytest.fixture(scope="module")
def static(host):
    """A patcher with ordinary weights, and a change of one of them in front of us."""
    patcher = small_model("sd15")
    change = torch.ones_like(patcher.model.state_dict()[KEY])
    assert patcher.add_patches({KEY: ("diff", (change,))}, 0.5) == [KEY]
    return patcher


@pytest.fixture
def dynamic(static, monkeypatch):
    """The same weights behind the host's dynamic patcher; its pinned buffers are replaced."""
    import comfy.model_patcher

    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        pytest.skip("this host has no dynamic patcher")
    buffers = types.SimpleNamespace(HostBuffer=mock.MagicMock)
    monkeypatch.setattr(comfy.model_patcher.comfy_aimdo, "host_buffer", buffers)
    kind = comfy.model_patcher.ModelPatcherDynamic
    monkeypatch.setattr(kind, "__del__", lambda self: None)
    patcher = kind(static.model, CARD, torch.device("cpu"))
    assert patcher.is_dynamic()
    patcher.patches = {key: list(entries) for key, entries in static.patches.items()}
    return patcher


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_host_loads_the_weights_again_without_streaming(static, dynamic):
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    asked = []

    def loader(*arguments, disable_dynamic=False):
        asked.append((arguments, disable_dynamic))
        return [static, None]

    dynamic.cached_patcher_init = (loader, ("model.safetensors",), 0)
    wanted = merged_weights(static, UNET_PREFIX)
    assert same(merged_weights(dynamic, UNET_PREFIX), wanted)
    assert asked == [(("model.safetensors",), True)]
    base = static.model.state_dict()[KEY]
    torch.testing.assert_close(wanted[KEY.removeprefix(UNET_PREFIX)], base.cpu() + 0.5)


def test_weights_that_no_loader_made_are_read_where_they_are(static, dynamic):
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    assert dynamic.cached_patcher_init is None
    assert same(merged_weights(dynamic, UNET_PREFIX), merged_weights(static, UNET_PREFIX))


def test_a_weight_is_copied_once_and_one_with_a_patch_shares_nothing(static, monkeypatch):
    from attndreambooth.nodes.host.model import weights

    made, plain = [], weights._plain
    monkeypatch.setattr(weights, "_plain", lambda w: made.append(plain(w)) or made[-1])
    with torch.inference_mode():
        found = weights.merged_weights(static, weights.UNET_PREFIX)
    own = {value.data_ptr() for value in found.values()}
    assert len(own) == len(found) and not any(value.is_inference() for value in found.values())
    assert not own & {value.data_ptr() for value in static.model.state_dict().values()}
    others = own - {value.data_ptr() for value in made}
    assert others <= {found[KEY.removeprefix(weights.UNET_PREFIX)].data_ptr()}


class GoneTensor(torch.Tensor):
    """A view of the host's streamed memory, which was given back: reading it ends the process."""

    def __deepcopy__(self, memo):
        raise AssertionError("read after it was given back")


def test_a_private_text_encoder_takes_nothing_that_the_host_streams_by(sd15, monkeypatch):
    model_vbar = pytest.importorskip("comfy_aimdo.model_vbar")
    from attndreambooth.nodes.host.model.text_encoder import TextEncoder

    freed = []
    library = types.SimpleNamespace(vbar_free=lambda context, at: freed.append(at))
    monkeypatch.setattr(model_vbar.control, "lib", library)
    memory = model_vbar.ModelVBAR.__new__(model_vbar.ModelVBAR)
    memory._devctx, memory._ptr = 1, 7
    layers = [m for m in sd15.clip.cond_stage_model.modules() if hasattr(m, "weight_function")]
    streamed = {
        "_v": (memory, 0, 64),
        "_v_signature": None,
        "_v_weight": torch.zeros(2).as_subclass(GoneTensor),
        "_pin_state": {"weights": (memory, [])},
        "weight_lowvram_function": memory,
    }
    theirs = {p.data_ptr() for p in sd15.clip.cond_stage_model.parameters()}
    try:
        for layer in layers:
            vars(layer).update(streamed)
        private = TextEncoder.from_clip(sd15.clip, "clip_l", torch.device("cpu"))
        left = {name for module in private.model.modules() for name in vars(module)}
        assert not left & streamed.keys()
        assert all(vars(layer)["_v"][0] is memory for layer in layers)
        assert not theirs & {p.data_ptr() for p in private.model.parameters()}
        del private
        gc.collect()
        assert freed == []
    finally:
        for layer in layers:
            for name in streamed:
                vars(layer).pop(name, None)
        memory._ptr = None
