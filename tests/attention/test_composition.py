"""Capturing lives with other nodes' patches, with cancel, errors and offloading."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.devkit.captured import NEGATIVE, assert_maps, capture, conditional_rows
from attndreambooth.devkit.wires import Calls, Oracle, control_net

pytestmark = pytest.mark.host

BLOCK = ("input", 1)


def state_of(model) -> tuple:
    """Everything of a MODEL wire that a careless node would change."""
    options = model.model_options
    unet = model.model.diffusion_model
    hooks = [
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules()
    ]
    return repr(options), repr(model.wrappers), repr(model.callbacks), dict(model.patches), hooks


class Foreign:
    """An attn2 replacement of another pack: text attention plus something of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __deepcopy__(self, memo):
        return self  # older hosts copy a clone's options deeply

    def __call__(self, q, k, v, extra_options):
        from comfy.ldm.modules.attention import optimized_attention

        self.calls += 1
        assert extra_options["block"][0] == "input"
        return 0.7 * optimized_attention(q, k, v, extra_options["n_heads"]) + 0.1


@pytest.mark.parametrize("order", ["before the capture", "after the capture"])
def test_a_foreign_attn2_replacement_is_called_whenever_it_was_set(sd15, order):
    foreign = Foreign()
    negative = sd15.encode(NEGATIVE)
    patched = sd15.model.clone()
    patched.set_model_attn2_replace(foreign, *BLOCK)
    if order == "before the capture":
        model, handle, positive = capture(sd15, model=patched)
    else:
        model, handle, positive = capture(sd15)
        model = model.clone()
        model.set_model_attn2_replace(foreign, *BLOCK)
    alone = sd15.draw(patched, positive, negative)
    assert not torch.equal(alone, sd15.draw(sd15.model, positive, negative))
    foreign.calls = 0
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), positive, negative)
    assert foreign.calls == 2
    assert torch.equal(drawn, alone)
    assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1))
    assert model.model_options["transformer_options"]["patches_replace"]["attn2"] == {
        BLOCK: foreign
    }


def test_a_replacement_by_the_exact_layer_goes_before_one_of_the_block(sd15):
    first, second = Foreign(), Foreign()
    patched = sd15.model.clone()
    patched.set_model_attn2_replace(first, *BLOCK)
    patched.set_model_attn2_replace(second, *BLOCK, 0)
    model, _, positive = capture(sd15, model=patched)
    drawn = sd15.draw(model, positive, sd15.encode(NEGATIVE))
    assert (first.calls, second.calls) == (0, 2)
    assert torch.equal(drawn, sd15.draw(patched, positive, sd15.encode(NEGATIVE)))


def test_attn2_patches_act_and_the_maps_show_their_effect(sd15):
    def append(n, context, value, extra_options):
        extra = context[:, :16] * 2
        return n, torch.cat([context, extra], dim=1), torch.cat([value, extra], dim=1)

    def scale(n, extra_options):
        return n * 1.1

    patched = sd15.model.clone()
    patched.set_model_attn2_patch(append)
    patched.set_model_attn2_output_patch(scale)
    model, handle, positive = capture(sd15, model=patched)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), positive, sd15.encode(NEGATIVE))
    assert torch.equal(drawn, sd15.draw(patched, positive, sd15.encode(NEGATIVE)))
    # 93 keys: 77 of text, then 16 appended; a word's column is its own alone.
    assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1), period=1000)


def test_layers_whose_queries_another_node_multiplies_are_left_out_and_named(sd15):
    def double(n, context, value, extra_options):
        return torch.cat([n, n]), torch.cat([context, context]), torch.cat([value, value])

    def halve(n, extra_options):
        return n.chunk(2)[0]

    patched = sd15.model.clone()
    patched.set_model_attn2_patch(double)
    patched.set_model_attn2_output_patch(halve)
    model, handle, positive = capture(sd15, model=patched)
    drawn = sd15.draw(model, positive, sd15.encode(NEGATIVE))
    assert torch.equal(drawn, sd15.draw(patched, positive, sd15.encode(NEGATIVE)))
    record, note = handle.find(drawn)
    assert record.sums == {}
    assert "another node changes their queries" in note


def test_a_control_net_acts_and_is_not_taken_for_the_model(sd15):
    import nodes

    model, handle, positive = capture(sd15)
    hint = torch.rand(1, 64, 96, 3)
    steered = nodes.ControlNetApplyAdvanced().apply_controlnet(
        positive, sd15.encode(NEGATIVE), control_net(sd15), hint, 1.0, 0.0, 1.0
    )
    plain = sd15.draw(sd15.model, *steered)
    assert not torch.equal(plain, sd15.draw(sd15.model, positive, sd15.encode(NEGATIVE)))
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), *steered)
    assert torch.equal(drawn, plain)
    record, note = handle.find(drawn)
    assert note == ""
    assert_maps(record, oracle, conditional_rows(calls, 1))


def test_a_compiled_model_is_captured_as_it_is_run_after_run(sd15):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    def skip_options(guards):  # as the stock node does
        return ["transformer_options" not in guard.name for guard in guards]

    model, handle, positive = capture(sd15)
    compiled = model.clone()
    options = {"guard_filter_fn": skip_options}
    set_torch_compile_wrapper(compiled, backend="eager", options=options)
    negative = sd15.encode(NEGATIVE)
    for seed in (1, 2):
        calls = Calls()
        with Oracle(sd15.model) as oracle:
            drawn = sd15.draw(calls.watch(compiled), positive, negative, seed=seed)
        assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1))


def test_two_captures_on_one_model_do_not_mix(sd15):
    first, one, positive = capture(sd15, words="cats")
    second, two, _ = capture(sd15, words="guitarist", model=first)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(second), positive, sd15.encode(NEGATIVE))
    assert torch.equal(drawn, sd15.draw(sd15.model, positive, sd15.encode(NEGATIVE)))
    for handle, label in ((one, "cats"), (two, "guitarist")):
        record = handle.find(drawn)[0]
        assert [word.label for word in record.words] == [label]
        assert_maps(record, oracle, conditional_rows(calls, 1))


def test_captures_on_two_branches_do_not_mix(sd15):
    left, one, positive = capture(sd15, words="cats")
    right, two, _ = capture(sd15, words="guitarist")
    a = sd15.draw(left, positive, sd15.encode(NEGATIVE), seed=1)
    b = sd15.draw(right, positive, sd15.encode(NEGATIVE), seed=2)
    assert len(one.runs) == len(two.runs) == 1
    assert one.find(a)[0].sums and two.find(b)[0].sums
    with pytest.raises(ValueError, match="not drawn by the captured MODEL"):
        one.find(b)


def test_one_capture_serves_two_samplers_and_a_later_seed(sd15):
    model, handle, positive = capture(sd15)
    negative = sd15.encode(NEGATIVE)
    first = sd15.draw(model, positive, negative, seed=1)
    second = sd15.draw(model, positive, negative, seed=2, size=(12, 8))
    for drawn, size in ((first, (8, 12)), (second, (12, 8))):
        assert handle.find(drawn)[0].latent_size == size


@pytest.mark.parametrize("kind", ["cancel", "error"])
def test_after_cancel_or_error_nothing_is_left(sd15, kind):
    import comfy.model_management
    import comfy.sample

    before = state_of(sd15.model)
    model, handle, positive = capture(sd15)
    negative = sd15.encode(NEGATIVE)
    captured = state_of(model)
    good = sd15.draw(model, positive, negative)
    raised = (
        comfy.model_management.InterruptProcessingException if kind == "cancel" else RuntimeError
    )

    def stop(step, *_):
        if step == 1:
            raise raised("stop")

    latent = torch.zeros(1, 4, 8, 12)
    noise = comfy.sample.prepare_noise(latent, 1)
    with pytest.raises(raised):
        comfy.sample.sample(
            model, noise, 4, 5.0, "euler", "normal", positive, negative, latent, callback=stop
        )
    assert len(handle.runs) == 1
    assert state_of(model) == captured
    assert state_of(sd15.model) == before
    assert torch.equal(sd15.draw(model, positive, negative), good)
    assert handle.find(good)[0].sums.popitem()[1].count.sum() == 2


def test_the_model_that_came_in_stays_as_it_was(sd15):
    before = state_of(sd15.model)
    model, _, positive = capture(sd15)
    sd15.draw(model, positive, sd15.encode(NEGATIVE))
    assert state_of(sd15.model) == before


def test_offloading_and_loading_again_change_nothing(sd15):
    import comfy.model_management

    model, handle, positive = capture(sd15)
    negative = sd15.encode(NEGATIVE)
    first = sd15.draw(model, positive, negative)
    comfy.model_management.unload_all_models()
    second = sd15.draw(model, positive, negative)
    assert torch.equal(first, second)
    one, two = (run.record.sums for run in handle.runs)
    for key in one:
        assert torch.equal(one[key].total, two[key].total)


def test_weights_patched_after_the_capture_are_those_that_are_seen(sd15):
    model, handle, positive = capture(sd15)
    name = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"
    patched = model.clone()
    shape = sd15.model.model.state_dict()[name].shape
    patched.add_patches({name: ("diff", (torch.randn(shape),))}, 0.5)
    negative = sd15.encode(NEGATIVE)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(patched), positive, negative)
    assert not torch.equal(drawn, sd15.draw(sd15.model, positive, negative))
    assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1))


def test_models_without_words_are_refused_by_name(sd15):
    from types import SimpleNamespace

    import comfy.ops
    import comfy.supported_models
    from comfy.ldm.flux.model import Flux, FluxParams

    from attndreambooth.nodes.host.model.attn2 import attn2_layers

    settings = {
        "in_channels": 4, "vec_in_dim": 8, "context_in_dim": 8, "hidden_size": 16, "theta": 10,
        "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "patch_size": 2,
        "axes_dim": [2, 2, 4], "txt_ids_dims": [], "qkv_bias": True, "guidance_embed": False,
        "out_channels": 4,
    }  # fmt: skip
    known = FluxParams.__dataclass_fields__
    flux = Flux(
        **{name: value for name, value in settings.items() if name in known},
        operations=comfy.ops.disable_weight_init,
    )
    config = comfy.supported_models.Flux({})
    model = SimpleNamespace(
        model=SimpleNamespace(diffusion_model=flux, model_config=config, model_type=None)
    )
    with pytest.raises(ValueError, match=r"MODEL is Flux .*no cross-attention"):
        attn2_layers(model)
