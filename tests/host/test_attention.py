"""Attention nodes in a real server: stock samplers, ControlNet, other packs, caching, cancel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from support.control_net import control_net_file
from support.graph import Graph, Node
from support.outcome import ExecutionFailed, Interrupted
from support.server import HostServer

from attndreambooth.devkit.checkpoints import make_checkpoint

pytestmark = pytest.mark.host

TEXT = "a photo of a cat on a wooden table"


@pytest.fixture(scope="module", autouse=True)
def models(server: HostServer, host) -> None:
    """A checkpoint and a ControlNet for it are among the server's."""
    server.add_model(make_checkpoint("sd15"))
    (server.base / "models" / "controlnet").mkdir(exist_ok=True)
    file = control_net_file(server.base / "small_control.safetensors")
    server.add_model(file, "controlnet")


def picture_of(server: HostServer, outcome, node: Node) -> np.ndarray:
    [file] = outcome.outputs[node.id]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB"))


class Captured:
    """A graph from checkpoint to a picture and its maps; parts can be put between."""

    def __init__(
        self, *, size=(96, 64), seed=1, steps=2, cfg=7.5, custom=False, control=False, foreign="",
        words="", opacity=0.65, capture=True,
    ) -> None:  # fmt: skip
        graph = self.graph = Graph()
        self.cfg = cfg
        width, height = size
        loaded = graph.add("CheckpointLoaderSimple", ckpt_name=make_checkpoint("sd15").name)
        model, self.capture = loaded[0], None
        if foreign == "before":
            model = graph.add("TestForeignAttention", model=model)[0]
        if capture:
            self.capture = graph.add(
                "AttnDBCaptureAttention", model=model, clip=loaded[1], text=TEXT, words=words,
                time_slices=4, keep_heads=False,
            )  # fmt: skip
            model = self.capture[0]
        if foreign == "after":
            model = graph.add("TestForeignAttention", model=model)[0]
        positive = graph.add("CLIPTextEncode", clip=loaded[1], text=TEXT)[0]
        negative = graph.add("CLIPTextEncode", clip=loaded[1], text="")[0]
        if control:
            net = graph.add("ControlNetLoader", control_net_name="small_control.safetensors")
            hint = graph.add("EmptyImage", width=width, height=height, batch_size=1, color=0x406080)
            steered = graph.add(
                "ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=net[0],
                image=hint[0], strength=1.0, start_percent=0.0, end_percent=1.0,
            )  # fmt: skip
            positive, negative = steered[0], steered[1]
        latent = graph.add("EmptyLatentImage", width=width, height=height, batch_size=1)[0]
        sample = self._custom if custom else self._plain
        self.sampled = sample(model, positive, negative, latent, seed, steps)
        image = graph.add("VAEDecode", samples=self.sampled[0], vae=loaded[2])[0]
        self.picture = graph.add("SaveImage", images=image, filename_prefix="picture")
        if self.capture is not None:
            self.maps = graph.add(
                "AttnDBAttentionMaps", capture=self.capture[1], samples=self.sampled[0],
                image=image, words="", word="cat", normalization="per word", layers="down and up",
                start_percent=0.0, end_percent=1.0, opacity=opacity, other_word="table",
                mask_output="soft", cell_size=128, columns=0, head=-1, layer_list="",
            )  # fmt: skip
            self.sheet = graph.add("SaveImage", images=self.maps[0], filename_prefix="sheet")
            mask = graph.add("MaskToImage", mask=self.maps[1])
            self.mask = graph.add("SaveImage", images=mask[0], filename_prefix="mask")
            self.report = graph.add("PreviewAny", source=self.maps[7])

    def _plain(self, model, positive, negative, latent, seed, steps) -> Node:
        return self.graph.add(
            "KSampler", model=model, positive=positive, negative=negative, latent_image=latent,
            seed=seed, steps=steps, cfg=self.cfg, sampler_name="dpmpp_2m", scheduler="normal",
            denoise=1.0,
        )  # fmt: skip

    def _custom(self, model, positive, negative, latent, seed, steps) -> Node:
        add = self.graph.add
        guider = add("CFGGuider", model=model, positive=positive, negative=negative, cfg=self.cfg)
        sigmas = add("BasicScheduler", model=model, scheduler="karras", steps=steps, denoise=1.0)
        return add(
            "SamplerCustomAdvanced", noise=add("RandomNoise", noise_seed=seed)[0],
            guider=guider[0], sampler=add("KSamplerSelect", sampler_name="euler")[0],
            sigmas=sigmas[0], latent_image=latent,
        )  # fmt: skip


def test_a_tall_picture_with_control_net_and_a_foreign_replacement_gives_maps(server):
    captured = Captured(size=(128, 192), steps=1, cfg=1.0, control=True, foreign="after")
    outcome = server.run(captured.graph.prompt, timeout=600)
    assert picture_of(server, outcome, captured.picture).shape == (192, 128, 3)
    assert picture_of(server, outcome, captured.mask).shape == (192, 128, 3)
    report = outcome.outputs[captured.report.id]["text"][0]
    assert len(report.splitlines()) == 1 + len(TEXT.split())  # a heading and a line for each word


def test_a_control_net_and_a_foreign_replacement_leave_the_picture_as_it_is(server):
    captured = Captured(control=True, foreign="after")
    plain = Captured(control=True, foreign="after", capture=False)
    assert np.array_equal(
        picture_of(server, server.run(captured.graph.prompt), captured.picture),
        picture_of(server, server.run(plain.graph.prompt), plain.picture),
    )


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("foreign", ["", "before", "after"])
def test_the_samplers_draw_the_same_picture_and_give_maps(server, custom, foreign):
    captured = Captured(custom=custom, foreign=foreign)
    plain = Captured(custom=custom, foreign=foreign, capture=False)
    outcome = server.run(captured.graph.prompt)
    alone = server.run(plain.graph.prompt)
    assert np.array_equal(
        picture_of(server, outcome, captured.picture), picture_of(server, alone, plain.picture)
    )
    assert picture_of(server, outcome, captured.mask).max() == 255
    assert "none of the conditionings" not in outcome.outputs[captured.report.id]["text"][0]


def test_another_seed_keeps_the_capture_and_draws_new_maps(server):
    first, second = Captured(seed=11), Captured(seed=12)
    one = server.run(first.graph.prompt)
    two = server.run(second.graph.prompt)
    assert second.capture.id in two.cached()
    assert second.maps.id in two.executed()
    assert not np.array_equal(
        picture_of(server, one, first.mask), picture_of(server, two, second.mask)
    )


def test_another_look_at_the_maps_does_not_draw_again(server):
    first = Captured(seed=21)
    one = server.run(first.graph.prompt)
    second = Captured(seed=21, opacity=1.0)
    two = server.run(second.graph.prompt)
    assert second.sampled.id in two.cached()
    assert second.maps.id in two.executed()
    assert not np.array_equal(
        picture_of(server, one, first.sheet), picture_of(server, two, second.sheet)
    )


def test_after_a_cancel_the_same_graph_draws_as_ever(server):
    long = Captured(seed=31, steps=500)

    def cancel(event):
        if event["type"] == "progress" and event["data"]["value"] >= 2:
            server.interrupt()

    with pytest.raises(Interrupted):
        server.run(long.graph.prompt, on_event=cancel)
    captured = Captured(seed=31)
    outcome = server.run(captured.graph.prompt)
    plain = Captured(seed=31, capture=False)
    assert np.array_equal(
        picture_of(server, outcome, captured.picture),
        picture_of(server, server.run(plain.graph.prompt), plain.picture),
    )


def test_results_survive_the_unloading_of_the_models(server):
    captured = Captured(seed=41)
    one = server.run(captured.graph.prompt)
    server.request("/free", {"unload_models": True})
    two = server.run(Captured(seed=42).graph.prompt)
    again = Captured(seed=41)
    three = server.run(again.graph.prompt)
    assert two.outputs
    assert np.array_equal(
        picture_of(server, one, captured.mask), picture_of(server, three, again.mask)
    )


def test_a_word_that_is_not_in_the_prompt_stops_the_graph_by_name(server):
    with pytest.raises(
        ExecutionFailed, match="Capture Attention: the word 'dog' is not in"
    ) as error:
        server.run(Captured(words="cat, dog").graph.prompt)
    assert error.value.node_type == "AttnDBCaptureAttention"
    assert "its words are: a#1, photo, of, a#2, cat, on, a#3, wooden, table" in error.value.message
