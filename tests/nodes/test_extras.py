"""LoRA and previews in the stages: the same promises as without them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.stages import draw, encode

from attndreambooth.attndb.config.presets import PRESETS


def options(run, **changes):
    return run("AttnDBTrainingOptions", **changes)[0]


@pytest.fixture(scope="module")
def lora_chain(sd15, train, run):
    """A concept after stages 2 and 3 as LoRAs of rank 2 and 3."""
    with torch.inference_mode():
        two = train(2, sd15, options=options(run, lora_rank=2))[0]
        return train(3, sd15, two, options=options(run, lora_rank=3))


def test_a_lora_concept_is_thin_and_draws_the_same_through_the_stock_loader(sd15, run, lora_chain):
    import folder_paths
    import nodes

    concept, model, clip, *_ = lora_chain
    name, _ = run("AttnDBSaveConcept", concept=concept, name="thin")
    thin = folder_paths.get_full_path("loras", f"{name}.safetensors")
    whole = sum(w.numel() * 4 for k, w in sd15.model.model.state_dict().items())
    assert 0 < Path(thin).stat().st_size < whole / 10
    stock, _ = nodes.LoraLoader().load_lora(sd15.model, sd15.clip, f"{name}.safetensors", 1.0, 0.0)
    prompt = "a photo of a {} person"
    ours = draw(model, clip, prompt.format("<astro>"))
    assert torch.equal(draw(stock, sd15.clip, prompt.format(f"embedding:{name}")), ours)
    base = draw(sd15.model, clip, prompt.format("<astro>"))
    assert (base - ours).abs().max() > 1e-4
    loaded, _ = run("AttnDBLoadConcept", name=name)
    assert loaded.digest() == concept.digest()


def test_a_lora_stage_leaves_biases_and_norms_alone(lora_chain):
    concept = lora_chain[0]
    assert concept.delta and all(name.endswith(".weight") for name in concept.delta)
    assert all(len(change.shape) >= 2 for change in concept.delta.values())


def test_whole_weights_can_be_trained_on_a_lora(sd15, train, lora_chain):
    concept = lora_chain[0]
    with_stage, model, clip, *_ = train(2, sd15, concept)
    assert draw(model, clip, "a <astro> person").isfinite().all()
    assert set(concept.delta) <= set(with_stage.delta)


def test_previews_are_drawn_and_change_nothing(sd15, train, run, output, chain):
    preview = run("AttnDBTrainingPreview", every=1, steps=2, width=64, height=64)[0]
    one, two, _ = chain
    concept = train(2, sd15, one, preview=preview)[0]
    assert concept.digest() == two.digest()
    pictures = sorted(path.name for path in output.rglob("previews/*.png"))
    assert pictures == ["step-00001.png", "step-00002.png"]
    kept = {path.name for path in output.rglob("attention/*")}
    assert {"maps.png", "curves.png", "looks.jsonl"} <= kept


def test_previews_show_the_vectors_of_the_moment(sd15, train, run, output):
    preview = run("AttnDBTrainingPreview", prompt="{}", every=1, steps=2, width=64, height=64)[0]
    train(1, sd15, preview=preview, steps=2)
    first, second = sorted(output.rglob("previews/*.png"))
    assert first.read_bytes() != second.read_bytes()
    assert encode(sd15.clip, "person").isfinite().all()


@pytest.mark.parametrize(
    ("method", "words"),
    [("textual_inversion", ("<my-cat>",)), ("ti_dreambooth", ("<my-cat>", "cat"))],
)
def test_a_preview_says_the_words_that_are_trained(host, monkeypatch, tmp_path, method, words):
    """As the concept's trigger does: beside a category, a word that learned nothing shows one."""
    from attndreambooth.attndb.config.compared import published
    from attndreambooth.nodes.host import workbench
    from attndreambooth.nodes.host.ui.plan import plan_of
    from attndreambooth.nodes.host.ui.preview import PreviewSettings

    given: list[Any] = []
    monkeypatch.setattr(workbench, "PreviewSampler", lambda *all_of: given.extend(all_of))
    config = published(method)
    settings = PreviewSettings(prompt="{}", every=1, steps=1, cfg=1, width=64, height=64, seed=0)
    bench = workbench.HostWorkbench(None, None, None, plan_of([method], [config]), settings)
    dataset = SimpleNamespace(placeholder="<my-cat>", category="cat")
    run = SimpleNamespace(folder=tmp_path, trouble="")
    bench.callbacks(SimpleNamespace(unet=None), config, dataset, None, {}, run)
    assert given[5] == words


def test_a_preview_that_does_not_fit_in_memory_is_left_out(
    sd15, train, run, output, chain, monkeypatch, caplog
):
    from attndreambooth.nodes.host.ui.preview import PreviewSampler

    def too_large(self, *what):
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(PreviewSampler, "draw", too_large)
    preview = run("AttnDBTrainingPreview", every=1, steps=2, width=64, height=64)[0]
    one, two, _ = chain
    assert train(2, sd15, one, preview=preview)[0].digest() == two.digest()
    assert not list(output.rglob("previews/*"))
    assert "step 1: not enough memory for a preview" in caplog.text


def test_a_preview_that_does_not_fit_on_the_disk_leaves_no_half_picture(
    sd15, train, run, output, chain, monkeypatch, caplog
):
    import errno
    import os

    from PIL import Image

    def half(self, handle, *_):
        handle.write(b"half a picture")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", half)
    preview = run(
        "AttnDBTrainingPreview", every=1, steps=2, width=64, height=64, attention_maps=False
    )[0]
    one, two, _ = chain
    monkeypatch.setattr("comfy.utils.ProgressBar.update_absolute", lambda *_: None)
    assert train(2, sd15, one, preview=preview)[0].digest() == two.digest()
    assert not [path for path in output.rglob("previews/*") if path.is_file()]
    assert "the preview of step 1 was not saved: " in caplog.text
    assert "No space left on device" in caplog.text


def test_the_parts_of_the_augmentation_reach_the_stage_and_defaults_change_nothing(
    sd15, train, run, chain
):
    from attndreambooth.attndb.config.data import DataConfig

    stage = PRESETS["paper"]()[1]
    known = options(run)
    assert known.applied(stage).identity() == stage.identity()
    parts = {"max_angle": 10.0, "flip": False, "random_crop": False, "keep_subject": True}
    chosen = options(run, **parts).applied(stage)
    assert chosen.data == DataConfig(**parts)
    from attndreambooth.nodes.options import TrainingOptionsNode

    inputs: list[Any] = TrainingOptionsNode.define_schema().inputs
    before = {i.id: i.default for i in inputs if i.id not in parts}  # a prompt saved before these
    assert all(i.optional and i.advanced for i in inputs if i.id in parts)
    [saved] = TrainingOptionsNode.execute(**before).args
    assert saved.applied(stage) == known.applied(stage)
    one, two, _ = chain
    assert train(2, sd15, one, options=known)[0].digest() == two.digest()


@pytest.mark.parametrize("preset", PRESETS)
def test_options_left_as_they_are_leave_every_preset_as_it_is(run, preset):
    for stage in PRESETS[preset]():
        assert options(run).for_preset().applied(stage) == stage
        course = options(run, schedule="linear", warmup_steps=3).applied(stage).optimizer
        assert (course.schedule, course.warmup_steps) == ("linear", 3)


def test_prodigy_takes_no_rate_of_a_preset_and_refuses_a_typed_one_of_adamw(run):
    stage, prodigy = PRESETS["paper"]()[2], options(run, optimizer="Prodigy")
    assert prodigy.for_preset().applied(stage).optimizer.learning_rate == 1
    with pytest.raises(ValueError, match=r"learning_rate = 2e-06: Prodigy .* use 1"):
        prodigy.applied(stage)


def test_schedule_free_takes_no_course_of_a_preset(run):
    for chosen, course in (({}, "constant"), ({"schedule": "linear"}, "linear")):
        free = options(run, optimizer="AdamW schedule-free", **chosen).for_preset()
        assert free.applied(PRESETS["micro-turbo"]()[0]).optimizer.schedule == course


def test_keep_subject_without_a_mask_says_that_it_does_nothing(sd15, train, run, chain, caplog):
    one = chain[0]
    plain = train(2, sd15, one)[0]
    kept = train(2, sd15, one, options=options(run, keep_subject=True))[0]
    assert "keep_subject: no photo has a mask" in caplog.text
    assert all(torch.equal(kept.delta[name], plain.delta[name]) for name in plain.delta)
