"""Training Preview: a picture for each line, and each is what the graph would make."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attndreambooth.attndb.training.step_loss import StepLoss

SIZE = {"width": 64, "height": 64}
STEPS, CFG, SEED = 2, 5.0, 3


def vectors(clip) -> torch.Tensor:
    from attndreambooth.nodes.host.model.placeholders import embedding_widths

    [width] = embedding_widths(clip).values()
    return torch.linspace(-1.0, 1.0, width)[None]


def previews(sd15, prompt: str, **changes: str) -> Any:
    """What draws them."""
    import comfy.model_management

    from attndreambooth.nodes.host.ui.preview import PreviewSampler, PreviewSettings

    # the module stands for a private one: no other test's concept is to be in its weights
    comfy.model_management.load_models_gpu([sd15.model])
    drawn = {"steps": STEPS, "cfg": CFG, "seed": SEED, **SIZE}
    settings = PreviewSettings(prompt=prompt, every=1, **drawn, **changes)
    unet = sd15.model.model.diffusion_model
    words = ("<astro>", "person")
    return PreviewSampler(settings, sd15.model, sd15.clip, sd15.vae, unet, words)


def preview(sd15, prompt: str, **changes: str) -> np.ndarray:
    return np.asarray(previews(sd15, prompt, **changes).draw({"clip_l": vectors(sd15.clip)}))


def graph(
    sd15, prompt: str, negative: str, sampling: tuple[str, str] = ("dpmpp_2m", "normal")
) -> np.ndarray:
    """By the stock nodes, of a CLIP that knows the word."""
    import nodes

    from attndreambooth.nodes.host.model.placeholders import with_vectors
    from attndreambooth.nodes.host.ui.images import from_image

    clip = with_vectors(sd15.clip, "<astro>", vectors(sd15.clip))
    asked, not_asked = (nodes.CLIPTextEncode().encode(clip, text)[0] for text in (prompt, negative))
    form = sd15.model.model.latent_format
    ratio = getattr(form, "spacial_downscale_ratio", 8)
    empty = {"samples": torch.zeros(1, form.latent_channels, *(64 // ratio,) * 2)}
    sampler, scheduler = sampling
    drawn = (sampler, scheduler, asked, not_asked, empty, 1.0)
    latent = nodes.KSampler().sample(sd15.model, SEED, STEPS, CFG, *drawn)[0]
    return np.asarray(from_image(nodes.VAEDecode().decode(sd15.vae, latent)[0]))


@pytest.mark.parametrize("negative", ["", "blurry {}"])
def test_each_line_is_the_picture_that_ksampler_makes_of_it(sd15, negative):
    lines = "a photo of a {}\n# not this one\n\n  a {} on the beach in the snow "
    row = preview(sd15, lines, **({"negative": negative} if negative else {}))
    asked = ("a photo of a <astro> person", "a <astro> person on the beach in the snow")
    words = negative.replace("{}", "<astro> person")
    expected = [graph(sd15, prompt, words) for prompt in asked]
    assert not np.array_equal(*expected)
    assert np.array_equal(row, np.concatenate(expected, axis=1))
    assert np.array_equal(preview(sd15, "a photo of a {}", negative=negative), expected[0])


@pytest.mark.parametrize("negative", ["blurry", "blurry {}"])
def test_a_text_is_encoded_anew_only_where_its_vectors_are_others(sd15, monkeypatch, negative):
    """The training changes them in place."""
    import comfy.sd

    encoded, of = [], comfy.sd.CLIP
    encode = of.encode_from_tokens_scheduled
    monkeypatch.setattr(
        of, "encode_from_tokens_scheduled", lambda *a: encoded.append(a) or encode(*a)
    )
    lines = "a photo of a {}\na dog"
    sampler, own = previews(sd15, lines, negative=negative), vectors(sd15.clip)
    rows, counts = [], []
    for change in (0.0, 0.0, 0.5):
        own += change
        before = len(encoded)
        rows.append(np.asarray(sampler.draw({"clip_l": own})))
        counts.append(len(encoded) - before)
    anew = previews(sd15, lines, negative=negative).draw({"clip_l": own})
    assert counts == [3, 0, 1 + negative.count("{}")]
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[2], np.asarray(anew))
    assert not np.array_equal(rows[0], rows[2])


@pytest.mark.parametrize("kind", ["sd15", "micro"])
def test_another_sampler_and_schedule_are_those_of_ksampler(sd15, kind, run):
    """The toy model predicts v. One that adds noise, since two steps of others may look alike."""
    wires = SimpleNamespace(
        **dict(zip(("model", "clip", "vae"), run("AttnDBLoadMicroModel"), strict=True))
        if kind == "micro"
        else vars(sd15)
    )
    told = {"sampler_name": "euler_ancestral", "scheduler": "karras"}
    row = preview(wires, "a {}", **told)
    assert np.array_equal(row, graph(wires, "a <astro> person", "", ("euler_ancestral", "karras")))
    assert not np.array_equal(row, preview(wires, "a {}"))


def test_a_negative_changes_the_picture_and_without_a_line_the_empty_prompt_is_drawn(sd15):
    assert not np.array_equal(preview(sd15, "a {}"), preview(sd15, "a {}", negative="blurry"))
    assert np.array_equal(preview(sd15, " \n"), graph(sd15, "", ""))


def test_the_node_refuses_more_lines_than_are_drawn_and_knows_graphs_without_a_negative(run):
    from support.stages import refuses

    from attndreambooth.nodes.preview import TrainingPreview

    with refuses("Training Preview: prompt has 25 lines, and 24 are drawn at most"):
        run("AttnDBTrainingPreview", prompt="a {}\n" * 25)
    with refuses("Training Preview: sampler_name = 'eulr': choose one of euler, "):
        run("AttnDBTrainingPreview", sampler_name="eulr")
    with refuses("Training Preview: scheduler = 'karas': choose one of "):
        run("AttnDBTrainingPreview", scheduler="karas")
    inputs: list[Any] = TrainingPreview.define_schema().inputs
    *before, negative, sampler, scheduler = inputs
    assert [i.id for i in (negative, sampler, scheduler)] == [
        *("negative", "sampler_name", "scheduler")
    ]
    assert all(i.optional and i.advanced for i in (negative, sampler, scheduler))
    [saved] = TrainingPreview.execute(**{i.id: i.default for i in before}).args
    assert saved == run("AttnDBTrainingPreview")[0]


@pytest.mark.parametrize(("prompt", "size"), [("a {}", (1152, 384)), ("a {}\nb {}", (768, 768))])
def test_a_row_lies_above_the_curve_and_one_picture_beside_it(host, tmp_path, prompt, size):
    from attndreambooth.nodes.host.ui.preview import PreviewPictures, PreviewSettings
    from attndreambooth.nodes.host.ui.progress import TrainingProgress

    settings = PreviewSettings(prompt=prompt, every=1, steps=1, cfg=1.0, seed=0, **SIZE)
    pictures = PreviewPictures(SimpleNamespace(settings=settings), tmp_path, 1)
    pictures.latest = Image.new("RGB", (64 * len(settings.prompts), 64), "red")
    progress = TrainingProgress("Stage 1", 2, pictures)
    progress._losses.append(StepLoss(0, {"denoising": 0.5}))
    shown = progress._picture()
    assert shown.size == size
    assert shown.getpixel((100, 100)) == (255, 0, 0)
