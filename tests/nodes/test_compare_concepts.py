"""Compare Concepts: the paper's figure for a subject, drawn by one node."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.stages import refuses

NODE = "AttnDBCompareConcepts"
SMALL = {"steps": 2, "cfg": 4.0, "width": 64, "height": 64, "cell_size": 64}


@pytest.fixture(scope="module")
def micro(run):
    with torch.inference_mode():
        wires = run("AttnDBLoadMicroModel")[:3]
        return dict(zip(("model", "clip", "vae"), wires, strict=True))


@pytest.fixture(scope="module")
def robot(run):
    with torch.inference_mode():
        photos, category, *_ = run("AttnDBMicroConcept", concept="hatted-robot")
        node = "AttnDBConceptDatasetFromImages"
        return run(node, images=photos, category=category, placeholder="<my-robot>")[0]


@pytest.fixture(scope="module")
def stages(run, micro, robot):
    """The concept after every stage."""
    with torch.inference_mode():
        concept = None
        found = []
        for number, kind in enumerate(
            ("LearnEmbedding", "TrainCrossAttention", "TrainUNet"), start=1
        ):
            name = f"AttnDBStage{number}{kind}"
            values = {"steps": 1, "batch_size": 2, "resolution": 64, "dataset": robot}
            concept = run(name, **micro, **values, concept=concept)[0]
            found.append(concept)
        return found


def compared(run, micro, concepts, **widgets):
    return run(NODE, **micro, concepts=concepts, **{**SMALL, **widgets})


def test_a_list_of_stages_is_a_figure_of_four_columns(run, micro, stages):
    figures, pictures = compared(run, micro, {"concept_0": stages})
    [figure] = figures
    assert figure.shape[0] == 1 and figure.shape[2] > 4 * 64
    assert figure.shape[1] > 3 * 64  # pictures, the word's maps, its category's
    assert [p.shape for p in pictures] == [(1, 64, 64, 3)] * 4


def test_train_concept_gives_the_concept_after_every_stage(run, micro, robot, monkeypatch):
    from attndreambooth.nodes import stages as module

    short = tuple(c.with_(steps=1, batch_size=2) for c in module.PRESETS["micro"]())
    monkeypatch.setitem(module.PRESETS, "micro", lambda: short)
    concept, *_, concepts = run("AttnDBAllStages", **micro, dataset=robot, preset="micro")
    assert [c.record["stages"][-1]["stage"] for c in concepts] == [1, 2, 3]
    assert concepts[-1].digest() == concept.digest()
    assert not concepts[0].delta and len(concepts[1].delta) < len(concepts[2].delta)


def test_a_concept_trained_without_its_category_has_the_map_of_its_word_alone(run, micro, stages):
    """Textual Inversion's prompts say the word only; a column that says the category brings its
    row back."""
    words = {"stages": [{"method": "textual_inversion", "words": {"with_category": False}}]}
    alone = stages[0].with_record(words)
    assert alone.trigger == alone.placeholder
    [own], _ = compared(run, micro, {"concept_0": alone}, before_training=False)
    [both], _ = compared(run, micro, {"concept_0": alone}, before_training=True)
    assert both.shape[1] - own.shape[1] > 64


def test_every_column_is_what_the_stock_sampler_draws(run, micro, stages, picture_of):
    _, pictures = compared(
        run, micro, {"concept_0": stages[2:]}, prompts="a photo of a {} in the snow", seed=7
    )
    plain = picture_of(micro, "a photo of a robot in the snow", seed=7)
    model, clip, trigger = run(
        "AttnDBApplyConcept", model=micro["model"], clip=micro["clip"], concept=stages[2]
    )
    applied = {**micro, "model": model, "clip": clip}
    ours = picture_of(applied, f"a photo of a {trigger} in the snow", seed=7)
    assert torch.equal(pictures[0], plain)
    assert torch.equal(pictures[1], ours)
    assert not torch.equal(plain, ours)


def test_a_concept_is_put_on_the_model_once_and_the_negative_is_encoded_once(
    run, micro, stages, monkeypatch
):
    from attndreambooth.nodes import columns

    done = []
    for name in ("apply_to_model", "corrected_clip", "encode"):
        plain = getattr(columns, name)
        monkeypatch.setattr(columns, name, lambda *a, n=name, p=plain: done.append(n) or p(*a))
    compared(run, micro, {"concept_0": stages}, prompts="a photo of a {}\na sketch of a {}")
    assert done.count("apply_to_model") == done.count("corrected_clip") == 3
    assert done.count("encode") == 4 * (2 + 1)


def test_a_prompt_that_is_its_own_negative_is_what_the_stock_sampler_draws(
    run, micro, stages, picture_of
):
    text = {"prompts": "a {} in the snow\na {} in the snow", "negative": "a {} in the snow"}
    _, pictures = compared(run, micro, {"concept_0": stages[:1]}, **text)
    said = "a robot in the snow"
    assert torch.equal(pictures[0], picture_of(micro, said, seed=0, negative=said))
    assert torch.equal(pictures[0], pictures[2]) and torch.equal(pictures[1], pictures[3])


def test_sockets_and_lists_are_joined_and_every_prompt_has_a_figure(run, micro, stages):
    figures, pictures = compared(
        run,
        micro,
        {"concept_0": [stages[0]], "concept_1": stages[1:]},
        prompts="a photo of a {}\n\n a sketch of a {} ",
        before_training=False,
    )
    assert len(figures) == 2 and len(pictures) == 2 * 3
    assert figures[0].shape == figures[1].shape


def test_columns_are_named_by_what_tells_them_apart(stages, host):
    from attndreambooth.nodes.columns import concept_names as _names

    told = ["after stage 1", "after stage 2", "after stage 3"]
    assert _names(stages) == told
    other = dataclasses.replace(stages[2], placeholder="<my-car>")
    assert _names([stages[2], other]) == ["<my-robot>", "<my-car>"]
    assert _names([*stages[:2], other])[0] == "<my-robot>, after stage 1"
    ti = stages[0].with_record({"stages": [{"method": "textual_inversion", "stage": 1}]})
    assert _names([ti, stages[2]]) == ["Textual Inversion", "after stage 3"]
    assert _names([stages[0].with_record({})]) == ["<my-robot>"]
    kept = [
        stages[2].with_record({"stages": [{"stage": 3, "after_steps": done}]}) for done in (50, 100)
    ]
    assert _names([*kept, stages[2]]) == [
        *("after stage 3, step 50", "after stage 3, step 100", "after stage 3")
    ]
    other_rate = dataclasses.replace(stages[2], vectors=stages[2].vectors + 1)
    assert _names([stages[2], other_rate]) == [told[2], f"{told[2]} (2)"]


def labels(concepts, strengths="1.0", corrections="0.0", **more):
    from attndreambooth.attndb.config.applied import all_applied
    from attndreambooth.nodes.columns import columns_of

    applied = all_applied(strengths, corrections)
    columns = columns_of({"c": concepts}, (), **{"before": False, "applied": applied, **more})
    return [column.label for column in columns]


def test_columns_of_one_concept_are_named_by_how_it_is_applied(stages, host):
    last, cat = stages[2], dataclasses.replace(stages[2], placeholder="<my-cat>")
    assert labels([last], before=True) == ["before training", "after stage 3"]
    assert labels([last], "1") == ["after stage 3"]
    assert labels([last], "0.6") == ["after stage 3, strength 0.6"]
    assert labels([last], "1.0, 0.6", before=True) == [
        *("before training", "after stage 3, strength 1", "after stage 3, strength 0.6")
    ]
    both = labels([last, cat], "1 0.5")  # by word, although each stands there twice
    assert both[1:3] == ["<my-robot>, strength 0.5", "<my-cat>, strength 1"]
    assert labels([last], "0.6", "0; 0.2")[1] == "after stage 3, strength 0.6, correction 0.2"
    assert labels([last], corrections="0.2") == ["after stage 3, correction 0.2"]
    assert labels([last], "1, 0.6", names=["robot"])[1] == "robot, strength 0.6"


def test_a_column_of_a_strength_is_apply_concept_at_it_and_the_stock_sampler(
    run, micro, stages, picture_of
):
    """A concept has the strengths 1 and 0.6 in one figure; all have the negative prompt."""
    _, pictures = compared(
        run,
        micro,
        {"concept_0": stages[2:]},
        **{"prompts": "a photo of a {} in the snow", "seed": 7, "strengths": "1.0, 0.6"},
        negative="a blurry {}",
    )
    assert len(pictures) == 3
    plain = picture_of(micro, "a photo of a robot in the snow", 7, "a blurry robot")
    assert torch.equal(pictures[0], plain)
    for picture, strength in zip(pictures[1:], (1.0, 0.6), strict=True):
        applied = {"model": micro["model"], "clip": micro["clip"], "concept": stages[2]}
        model, clip, trigger = run("AttnDBApplyConcept", **applied, strength=strength)
        wires = {**micro, "model": model, "clip": clip}
        words = (f"a photo of a {trigger} in the snow", 7, f"a blurry {trigger}")
        assert torch.equal(picture, picture_of(wires, *words))
        assert not torch.equal(picture, picture_of(wires, words[0], 7))
    assert not torch.equal(*pictures[1:])


def test_a_column_of_a_correction_is_apply_concept_with_it(run, micro, stages, picture_of):
    one = {"concept_0": stages[2:]}
    _, (picture,) = compared(run, micro, one, before_training=False, seed=7, corrections="0.2")
    applied = {"model": micro["model"], "clip": micro["clip"], "concept": stages[2]}
    model, clip, trigger = run("AttnDBApplyConcept", **applied, correction=0.2)
    drawn = picture_of({**micro, "model": model, "clip": clip}, f"a photo of a {trigger}", 7)
    assert torch.equal(picture, drawn)


def test_a_graph_that_was_saved_before_draws_as_it_did(run, micro, stages):
    from attndreambooth.nodes.compare_concepts import CompareConcepts

    one = {"concept_0": stages[2:]}
    _, expected = compared(run, micro, one)
    new = ("strengths", "corrections", "negative")
    inputs: dict[str, Any] = {i.id: i for i in CompareConcepts.define_schema().inputs}
    assert all(inputs[name].optional and inputs[name].advanced for name in new)
    saved = {n: [i.default] for n, i in inputs.items() if n not in new and hasattr(i, "default")}
    saved = {n: v for n, v in saved.items() if v != [None]}
    _, pictures = CompareConcepts.execute(
        **{n: [v] for n, v in micro.items()}, concepts=one, **{**saved, **SMALL}
    ).args
    assert all(torch.equal(a, b) for a, b in zip(expected, pictures, strict=True))


def test_words_of_the_prompt_are_rows(run, micro, stages):
    one = {"concept_0": stages[:1]}
    figures, _ = compared(run, micro, one, words="robot", prompts="a photo of a {} in the snow")
    more, _ = compared(
        run, micro, one, words="robot, snow, photo", prompts="a photo of a {} in the snow"
    )
    assert more[0].shape[1] > figures[0].shape[1]


def test_a_word_of_one_prompt_is_a_row_of_its_figure_alone(run, micro, stages):
    one = {"concept_0": stages[:1]}
    lines = ("a photo of a {} in the snow", "a photo of a {}")
    figures, _ = compared(run, micro, one, words="robot, snow", prompts="\n".join(lines))
    snowy, plain = figures
    assert snowy.shape[1] > plain.shape[1]
    [alone], _ = compared(run, micro, one, words="robot", prompts=lines[1])
    assert torch.equal(plain, alone)


@pytest.fixture
def drawn(monkeypatch):
    """Of every picture that is drawn, how many words have a map."""
    from attndreambooth.nodes import columns

    plain, made = columns.drawn_figure, []
    monkeypatch.setattr(columns, "drawn_figure", lambda *a: made.append(plain(*a)) or made[-1])
    return lambda: [len(figure.maps.words) for figure in made]


@pytest.mark.parametrize(
    "asked", [{"words": "robot, dog"}, {"prompts": "a photo of snow"}], ids=["typed", "no subject"]
)
def test_a_word_of_no_prompt_is_refused_before_anything_is_drawn(run, micro, stages, drawn, asked):
    with refuses(r"Compare Concepts: there is no map of '.*', for no prompt .* the first are: a"):
        compared(run, micro, {"concept_0": stages[:1]}, **asked)
    assert not drawn()


def test_only_maps_that_are_shown_are_captured_and_the_pictures_are_the_same(
    run, micro, stages, drawn, monkeypatch
):
    """The first prompt has no snow: each of its words was looked at for nothing."""
    from attndreambooth.nodes import compare_concepts

    one, asked = (
        {"concept_0": stages[:1]},
        {"words": "snow", "prompts": "a {} in rain\na {} in snow"},
    )
    figures, pictures = compared(run, micro, one, **asked)
    assert drawn() == [0, 1, 0, 1]
    monkeypatch.setattr(compare_concepts, "_reads", lambda *_: True)
    wide, expected = compared(run, micro, one, **asked)
    assert drawn()[4:] == [4, 1, 5, 1]
    pairs = zip([*figures, *pictures], [*wide, *expected], strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"concepts": {}}, "Compare Concepts: there is no concept: connect"),
        ({"prompts": " \n"}, "prompts is empty: write one in a line"),
        ({"prompts": "a {}\n" * 25}, "prompts: 25 lines, and 24 are drawn at most"),
        ({"seed": [1, 2]}, "seed is a list"),
        ({"strengths": ""}, "strengths is empty: type a number, or several, such as 1.0, 0.8, 0.6"),
        ({"strengths": "1.0, strong"}, "strengths: 'strong' is no number from 0 to 10"),
        ({"strengths": "-0.5"}, "strengths: '-0.5' is no number from 0 to 10"),
        ({"strengths": "nan"}, "strengths: 'nan' is no number from 0 to 10"),
        ({"strengths": "11"}, "strengths: '11' is no number from 0 to 10"),
        ({"strengths": "0,8"}, "strengths = '0,8' may be decimal commas or a list: write numbers"),
        ({"strengths": "1.0; 0,8"}, "strengths = '1.0; 0,8' may be decimal commas or a list"),
        ({"corrections": "0.0,0,1"}, "corrections = '0.0,0,1' may be decimal commas or a list"),
        (
            {"strengths": ", ".join(str(n / 10) for n in range(50))},
            "50 ways to draw a concept are 50 columns, and a figure shows 12 at most: type fewer",
        ),
        ({"strengths": "1 0.9 0.8", "corrections": "0 .1 .2 .3 .4"}, "15 ways to draw a concept"),
        ({"corrections": "2"}, "corrections: '2' is no number from 0 to 1; type such as 0.0, 0.2"),
        ({"strengths": ["1.0", "0.6"]}, "strengths is a list"),
    ],
)
def test_what_cannot_be_drawn_is_refused(run, micro, stages, changes, said):
    values = {"concepts": {"concept_0": stages[:1]}, **changes}
    with refuses(said):
        compared(run, micro, **values)


def test_nothing_is_left_on_the_wires(run, micro, stages):
    from comfy.model_management import unload_all_models

    unload_all_models()  # a clone that was sampled last lies patched in the model until then
    before = {k: v.clone() for k, v in micro["model"].model.state_dict().items()}
    options = repr(micro["model"].model_options)
    compared(run, micro, {"concept_0": stages[2:]})
    unload_all_models()
    after = micro["model"].model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert repr(micro["model"].model_options) == options


@pytest.fixture
def picture_of():
    """What CLIP Text Encode, KSampler and VAE Decode make of these wires."""
    import nodes

    def draw(wires, text, seed, negative=""):
        encode = nodes.CLIPTextEncode().encode
        channels = wires["model"].model.latent_format.latent_channels
        ratio = getattr(wires["model"].model.latent_format, "spacial_downscale_ratio", 8)
        latent = {"samples": torch.zeros(1, channels, 64 // ratio, 64 // ratio)}
        sampled = nodes.common_ksampler(
            wires["model"],
            seed,
            2,
            4.0,
            "dpmpp_2m",
            "normal",
            encode(wires["clip"], text)[0],
            encode(wires["clip"], negative)[0],
            latent,
        )[0]
        return nodes.VAEDecode().decode(wires["vae"], sampled)[0]

    return draw
