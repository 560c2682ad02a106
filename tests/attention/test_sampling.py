"""Capturing under the stock samplers: the picture stays, the maps are the model's own."""

from __future__ import annotations

import math

import pytest
import torch

from attndreambooth.devkit.captured import NEGATIVE, TEXT, assert_maps, capture, conditional_rows
from attndreambooth.devkit.wires import Calls, Loaded, Oracle

pytestmark = pytest.mark.host


def custom(loaded: Loaded, guider, *, size=(8, 12), batch=1, steps=2) -> torch.Tensor:
    """LATENT samples of SamplerCustomAdvanced."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    sigmas = comfy.samplers.calculate_sigmas(
        loaded.model.get_model_object("model_sampling"), "karras", steps
    )
    latent = {"samples": torch.zeros(batch, 4, *size)}
    sampler = comfy.samplers.sampler_object("dpmpp_2m")
    out = SamplerCustomAdvanced.execute(Noise_RandomNoise(3), guider, sampler, sigmas, latent)
    return out.args[0]["samples"]


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "uni_pc", "dpmpp_2s_ancestral"])
def test_the_picture_is_the_same_bit_for_bit(sd15, sampler):
    model, handle, positive = capture(sd15)
    negative = sd15.encode(NEGATIVE)
    options = {"sampler": sampler, "batch": 2, "steps": 2}
    plain = sd15.draw(sd15.model, positive, negative, **options)
    captured = sd15.draw(model, positive, negative, **options)
    assert torch.equal(plain, captured)
    assert len(handle.runs) == 1


def test_maps_are_those_of_the_prompts_rows_in_a_batch_of_wide_pictures(sd15):
    model, handle, positive = capture(sd15)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(
            calls.watch(model), positive, sd15.encode(NEGATIVE), size=(8, 12), batch=2, steps=3
        )
    record, note = handle.find(drawn)
    assert note == ""
    assert {(key.height, key.width) for key in record.sums} == {(8, 12), (4, 6)}
    assert_maps(record, oracle, conditional_rows(calls, 2))


def test_the_conditioning_output_is_that_of_the_stock_node(sd15):
    _, _, conditioning = capture(sd15)
    stock = sd15.encode(TEXT)
    assert torch.equal(conditioning[0][0], stock[0][0])
    assert torch.equal(conditioning[0][1]["pooled_output"], stock[0][1]["pooled_output"])


def test_without_guidance_there_is_only_the_prompt(sd15):
    model, handle, positive = capture(sd15)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), positive, sd15.encode(NEGATIVE), cfg=1.0)
    assert calls.order == [[0], [0]]
    assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1))


@pytest.mark.parametrize("kind", ["basic", "cfg", "dual"])
def test_guiders_of_the_custom_sampler_are_understood(sd15, kind):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_Basic, Guider_DualCFG

    model, handle, positive = capture(sd15)
    calls = Calls()
    watched = calls.watch(model)
    if kind == "basic":
        guider, place = Guider_Basic(watched), 0
        guider.set_conds(positive)
    elif kind == "cfg":
        guider, place = comfy.samplers.CFGGuider(watched), 0
        guider.set_conds(positive, sd15.encode(NEGATIVE))
        guider.set_cfg(5.0)
    else:
        guider, place = Guider_DualCFG(watched), 1  # its order is negative, second, first
        guider.set_conds(sd15.encode("a dog"), positive, sd15.encode(NEGATIVE))
        guider.set_cfg(5.0, 3.0)
    with Oracle(sd15.model) as oracle:
        drawn = custom(sd15, guider)
    record, note = handle.find(drawn)
    assert note == ""
    chunks = [order.index(place) for order in calls.order]
    assert_maps(record, oracle, [slice(chunk, chunk + 1) for chunk in chunks])


def test_a_long_prompt_against_a_short_negative_one(sd15):
    long = ", ".join(f"a {thing} on a table" for thing in ["cup"] * 18 + ["guitarist"])
    model, handle, positive = capture(sd15, long, "guitarist, cup#1")
    assert positive[0][0].shape[1] == 154
    assert handle.words[0].columns[0] > 77
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), positive, sd15.encode(NEGATIVE))
    assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1), period=154)


def test_a_short_prompt_that_the_host_repeats_to_a_long_negative_one(sd15):
    model, handle, positive = capture(sd15)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), positive, sd15.encode("blurry " * 90))
    assert calls.context[0].shape[1] == 154
    assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1))


def test_a_prompt_inside_a_concatenated_conditioning_is_found_at_its_place(sd15):
    model, handle, positive = capture(sd15)
    first = sd15.encode("in a garden")
    both = [[torch.cat([first[0][0], positive[0][0]], dim=1), positive[0][1]]]
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), both, sd15.encode(NEGATIVE))
    rows = conditional_rows(calls, 1)
    assert_maps(handle.find(drawn)[0], oracle, rows, first_column=77, period=154)


def test_of_several_conditionings_only_that_of_the_prompt_is_looked_at(sd15):
    model, handle, positive = capture(sd15)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(
            calls.watch(model), sd15.encode("a dog") + positive, sd15.encode(NEGATIVE)
        )
    rows = []
    for context in calls.context:
        near = [(chunk - positive[0][0][0]).norm() for chunk in context]
        rows.append(slice(int(torch.stack(near).argmin()), int(torch.stack(near).argmin()) + 1))
    assert len(calls.order[0]) == 3
    assert_maps(handle.find(drawn)[0], oracle, rows)


def test_the_negative_prompt_can_be_looked_at_too(sd15):
    model, handle, _ = capture(sd15, NEGATIVE)
    calls = Calls()
    with Oracle(sd15.model) as oracle:
        drawn = sd15.draw(calls.watch(model), sd15.encode(TEXT), sd15.encode(NEGATIVE))
    rows = [slice(order.index(1), order.index(1) + 1) for order in calls.order]
    record, note = handle.find(drawn)
    assert note == ""
    assert_maps(record, oracle, rows)


def test_a_regional_prompt_is_put_at_its_place(sd15):
    from nodes import ConditioningSetArea

    model, handle, positive = capture(sd15)
    region = ConditioningSetArea().append(positive, 64, 32, 32, 16, 1.0)[0]  # latent 4 x 8 at 2, 4
    drawn = sd15.draw(model, sd15.encode("a dog") + region, sd15.encode(NEGATIVE))
    record, _ = handle.find(drawn)
    crops = {(k.crop.top, k.crop.left, k.crop.height, k.crop.width) for k in record.sums}
    assert crops == {(2, 4, 4, 8)}
    assert all(found.count.sum() == 2 for found in record.sums.values())
    from attndreambooth.attndb.attention.word_maps import MapSelection, word_maps_of

    maps = word_maps_of(record, MapSelection()).maps
    outside = maps.clone()
    outside[..., 2:6, 4:12] = 0
    assert outside.abs().max() == 0 and maps[..., 2:6, 4:12].min() > 0


def test_two_samplers_in_a_row_are_one_picture(sd15):
    import nodes

    model, handle, positive = capture(sd15)
    negative = sd15.encode(NEGATIVE)
    latent = {"samples": torch.zeros(1, 4, 8, 12)}

    def advanced(latent, noise, start, end, leftover):
        return nodes.KSamplerAdvanced().sample(
            model, noise, 1, 4, 5.0, "euler", "normal", positive, negative, latent, start, end,
            leftover,
        )[0]  # fmt: skip

    half = advanced(latent, "enable", 0, 2, "enable")
    whole = advanced(half, "disable", 2, 4, "disable")
    at_once = advanced(latent, "enable", 0, 4, "disable")
    torch.testing.assert_close(whole["samples"], at_once["samples"], rtol=1e-4, atol=1e-4)
    joined, single = handle.find(whole["samples"])[0], handle.runs[-1].record
    for key, found in single.sums.items():
        assert found.count.sum() == 4
        torch.testing.assert_close(joined.sums[key].total, found.total, rtol=1e-4, atol=1e-6)
    assert handle.find(half["samples"])[0].sums[key].count.sum() == 2


def test_steps_lie_in_the_slice_of_their_place_in_the_noise_schedule(sd15):
    model, handle, positive = capture(sd15, slices=4)
    calls = Calls()
    drawn = sd15.draw(calls.watch(model), positive, sd15.encode(NEGATIVE), steps=6)
    wanted = [0, 0, 0, 0]
    for t in calls.t:
        wanted[min(3, int((1 - float(t[0]) / 999) * 4))] += 1
    for found in handle.find(drawn)[0].sums.values():
        assert found.count.tolist() == wanted
    assert sum(wanted) == 6 and sum(count > 0 for count in wanted) > 2


@pytest.mark.parametrize("sampling", ["v_prediction", "edm_playground_v2.5"])
def test_steps_of_another_model_sampling_lie_in_their_slice_too(sd15, sampling):
    """Its timesteps are logarithms of sigma; percents of sampling mean what they mean elsewhere."""
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    model, handle, positive = capture(sd15, slices=4)
    model = ModelSamplingContinuousEDM().patch(model, sampling, 120.0, 0.002)[0]
    drawn = sd15.draw(model, positive, sd15.encode(NEGATIVE), steps=6, scheduler="exponential")
    schedule = model.get_model_object("model_sampling")
    ends = [schedule.percent_to_sigma(i / 4) for i in (1, 2, 3)]
    sigmas = torch.linspace(math.log(120.0), math.log(0.002), 6).exp().tolist()
    wanted = [0, 0, 0, 0]
    for sigma in sigmas:
        wanted[sum(sigma <= end for end in ends)] += 1
    for found in handle.find(drawn)[0].sums.values():
        assert found.count.tolist() == wanted
    assert sum(count > 0 for count in wanted) > 2


def test_a_picture_changed_by_a_mask_and_denoised_in_part_is_still_found(sd15):
    model, handle, positive = capture(sd15)
    latent = {"samples": torch.randn(1, 4, 8, 12), "noise_mask": torch.zeros(1, 64, 96)}
    latent["noise_mask"][..., 48:] = 1
    drawn = sd15.draw(model, positive, sd15.encode(NEGATIVE), latent=latent, denoise=0.6, steps=3)
    assert handle.find(drawn)[0].sums


def test_another_prompt_than_the_sampled_one_is_said(sd15, caplog):
    model, handle, _ = capture(sd15)
    drawn = sd15.draw(model, sd15.encode("a dog and so on, as it was"), sd15.encode(NEGATIVE))
    _, note = handle.find(drawn)
    assert "none of the conditionings" in note
    assert "none of the conditionings" in caplog.text


def test_a_model_of_sdxl_layout_is_captured(host):
    import comfy.sd

    from attndreambooth.attndb.attention.capture import Capture
    from attndreambooth.attndb.attention.prompt_words import Word
    from attndreambooth.devkit.checkpoints import make_checkpoint
    from attndreambooth.nodes.host.capture.capture import capture_model

    path = str(make_checkpoint("sdxl", dtype=torch.float32))
    model = comfy.sd.load_checkpoint_guess_config(path, output_clip=False, output_vae=False)[0]

    def conditioning(seed):
        generator = torch.Generator().manual_seed(seed)
        text = torch.randn(1, 77, 2048, generator=generator)
        return [[text, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]

    positive, negative = conditioning(1), conditioning(2)
    handle = Capture(prompt="x y", words=[Word(label="x", columns=(1, 2))], slices=1)
    calls, loaded = Calls(), Loaded(model, None, None)
    captured = calls.watch(capture_model(model, handle, positive))
    with Oracle(model) as oracle:
        drawn = loaded.draw(captured, positive, negative, size=(8, 16))
    assert torch.equal(drawn, loaded.draw(model, positive, negative, size=(8, 16)))
    assert_maps(handle.find(drawn)[0], oracle, conditional_rows(calls, 1))
