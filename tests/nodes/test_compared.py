"""The node that trains the compared methods, on the embedded model, as the host calls it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.stages import encode, refuses

from attndreambooth.attndb.config.compared import COMPARED, published

NODE = "AttnDBTrainComparedMethod"
RATES = {"textual_inversion": 2e-2, "neti": 1e-2}
PHOTO = "a photo of a {}"


@pytest.fixture(scope="module")
def micro(run):
    names = ("model", "clip", "vae")
    return dict(zip(names, run("AttnDBLoadMicroModel")[:3], strict=True))


@pytest.fixture(scope="module")
def robot(run):
    photos, category, *_ = run("AttnDBMicroConcept", concept="hatted-robot")
    node = "AttnDBConceptDatasetFromImages"
    return run(node, images=photos, category=category, placeholder="<my-robot>")[0]


@pytest.fixture(scope="module")
def labels(host):
    from attndreambooth.nodes.compared_methods import METHODS

    return {method.name: method.label for method in METHODS}


def own_defaults(label):
    """The widgets of a method with their defaults, as the host would send them."""
    from attndreambooth.nodes.compared import TrainComparedMethod

    [combo] = [i for i in TrainComparedMethod.define_schema().inputs if i.id == "method"]
    menu: Any = combo
    [choice] = [option for option in menu.options if option.key == label]
    return {"method": label, **{own.id: own.default for own in choice.inputs}}


@pytest.fixture(scope="module")
def compared(run, micro, robot, labels, tmp_path_factory):
    """Trains a method for a few steps."""

    def train(method, steps=6, dataset=robot, **changes):
        own = {**own_defaults(labels[method]), "steps": steps, "batch_size": 4}
        own["learning_rate"] = RATES.get(method, 1e-4)
        shared = {"resolution": 64, "augmentation": "none", "precision": "fp32", "dataset": dataset}
        return run(NODE, **micro, **{**shared, "method": {**own, **changes}})

    return train


@pytest.mark.parametrize("method", COMPARED)
def test_it_trains_on_the_embedded_model_and_comes_back_from_its_files(run, compared, method):
    concept, _, _, _, losses = compared(method)
    assert all(torch.tensor(losses["loss"]).isfinite())
    assert concept.record["stages"][0]["method"] == method
    name = run("AttnDBSaveConcept", concept=concept, name=f"robot-{method}")[0]
    loaded, trigger = run("AttnDBLoadConcept", name=name)
    assert loaded.digest() == concept.digest()
    alone = method in ("textual_inversion", "neti", "vico")  # trained without the category
    assert trigger == concept.trigger == ("<my-robot>" if alone else "<my-robot> robot")


def test_asked_again_a_finished_training_answers_from_its_folder(compared, monkeypatch):
    from attndreambooth.attndb.training import session

    first = compared("dreambooth", 2)[0]
    monkeypatch.setattr(session, "train", None)
    assert compared("dreambooth", 2)[0].digest() == first.digest()


def test_a_prompt_with_dreambooths_placeholder_is_that_with_the_rare_word(compared, micro):
    clip = compared("dreambooth", 1)[2]
    ours = encode(clip, PHOTO.format("<my-robot> robot"))
    assert torch.equal(ours, encode(micro["clip"], PHOTO.format("sks robot")))


def test_textual_inversion_draws_a_prompt_for_every_sample(compared, monkeypatch):
    from attndreambooth.attndb.training import session

    seen = []
    plain = session.train

    def look(model, method, batches, *rest):
        seen.extend(prompt.text for step in range(6) for prompt in batches[step].prompts)
        return plain(model, method, batches, *rest)

    monkeypatch.setattr(session, "train", look)
    compared("textual_inversion", 1)
    assert len(set(seen)) > 10 and all("<my-robot>" in text for text in seen)
    assert not any("robot>" in text and " robot" in text for text in seen)
    seen.clear()
    compared("textual_inversion", 1, templates="dataset")
    assert set(seen) == {"a photo of a <my-robot>"}


def test_the_datasets_own_prompts_are_the_captions_of_its_photos(run, compared, monkeypatch):
    from attndreambooth.attndb.training import session

    photos, category, *_ = run("AttnDBMicroConcept", concept="hatted-robot")
    lines = [f"a {{}} number {number}" for number in range(len(photos))]
    node = "AttnDBConceptDatasetFromImages"
    words = {"category": category, "placeholder": "<my-robot>", "captions": "\n".join(lines)}
    dataset = run(node, images=photos, **words)[0]
    made = []
    plain = session.PhotoBatches
    watched = lambda *given: made.append(plain(*given)) or made[-1]  # noqa: E731
    monkeypatch.setattr(session, "PhotoBatches", watched)
    compared("textual_inversion", 1, templates="dataset", dataset=dataset)
    seen = {
        (dataset.photos.index(photo), prompt.text)
        for step in range(6)
        for (photo, _), prompt in zip(made[0].samples(step), made[0][step].prompts, strict=True)
    }
    assert seen == {(n, f"a <my-robot> number {n}") for n in range(len(photos))}


def test_dreambooth_without_prior_images_is_told_so(compared, caplog):
    compared("dreambooth", 1)
    assert "published with prior images (Add Prior Images)" in caplog.text
    assert "fewer steps are usual" in caplog.text and "half the rate" not in caplog.text
    compared("custom_diffusion", 1)
    assert "half the rate is usual" in caplog.text


def test_every_method_is_in_the_menu_and_each_of_its_widgets_reaches_its_config(host):
    from attndreambooth.nodes.compared_methods import METHODS, OURS

    assert tuple(method.name for method in METHODS) == COMPARED
    for method in METHODS:
        widgets: list[Any] = [*method.widgets()]
        defaults = {widget.id: widget.default for widget in widgets}
        configs = [method.config(defaults)]
        assert configs == [published(method.name)]
        for name, value in defaults.items():
            words = {"templates": OURS, "rare_word": "zwx", "bypass": not value}
            other = words[name] if name in words else value + 1 if value >= 1 else value / 2
            configs.append(method.config({**defaults, name: other}))
        assert all(one not in configs[:n] for n, one in enumerate(configs)), method.name


def test_words_that_cannot_be_a_rare_word_and_unknown_methods_are_refused(compared):
    from attndreambooth.nodes.compared import config_of

    with refuses("Train Compared Method: 'two words' is not one word of plain text"):
        compared("dreambooth", 1, rare_word="two words")
    with refuses("rare_word is empty, and DreamBooth names the subject by one.*e.g. sks"):
        compared("dreambooth", 1, rare_word=" ")
    with pytest.raises(ValueError, match="method = 'Magic': choose one of Textual Inversion"):
        config_of({"method": "Magic"}, {})


def test_the_host_hands_the_settings_of_the_chosen_method_over(labels):
    """In the host's own way of reading a prompt, in every version that the pack promises."""
    from comfy_api.latest import _io

    from attndreambooth.nodes.compared import TrainComparedMethod

    kind = TrainComparedMethod.GET_SCHEMA
    assert kind().node_id == NODE
    typed = {"method": labels["dreambooth"], "method.steps": 7, "method.rare_word": "zwx"}
    read: Any = _io.get_finalized_class_inputs  # it gives three, and says two
    _, _, v3 = read(TrainComparedMethod.INPUT_TYPES(), dict(typed))
    settings = _io.build_nested_inputs(dict(typed), v3)["method"]
    assert settings["method"] == "DreamBooth"
    assert (settings["steps"], settings["rare_word"]) == (7, "zwx")
