"""What holds a concept's weights to the base, through the nodes: used, recorded, shown, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from support.stages import dataset, refuses


def options(run, **changes):
    return run("AttnDBTrainingOptions", **changes)[0]


def runs(output):
    return sorted(path.name for path in output.glob("attndb/*"))


@pytest.mark.parametrize("name", ["weight_anchor", "prior_prediction"])
def test_a_stage_uses_records_and_shows_it(sd15, run, train, chain, output, caplog, name):
    caplog.set_level("INFO")
    chosen = options(run, **{name: 40.0})
    concept, _, _, picture, total = train(2, sd15, chain[0], options=chosen, steps=2)
    entry = concept.record["stages"][-1]
    assert entry[name] == 40.0
    assert entry["loss_names"] == ["denoising", "attention_map", name]
    assert [sum(parts) for parts in entry["losses"]] == pytest.approx(total["loss"])
    lines = next(output.rglob("losses.jsonl")).read_text().splitlines()
    assert [json.loads(line)[name] for line in lines] == [p[-1] for p in entry["losses"]]
    spoken = name.replace("_", " ")
    assert f"({spoken})" in caplog.text and f"held to the base model by {name} 40" in caplog.text
    green = torch.tensor([120, 210, 130]) / 255
    assert bool(((picture[0] - green).abs().amax(dim=-1) < 1e-3).any())


def test_of_a_concept_that_is_far_from_the_base_the_anchor_begins_above_zero(
    sd15, run, train, chain
):
    """Stage 3 is held to the MODEL on the wire, not to where stage 2 came to."""
    chosen = options(run, weight_anchor=40.0)
    losses = train(3, sd15, chain[1], options=chosen, steps=1)[0].record["stages"][-1]["losses"]
    changed = sum(float(delta.float().square().sum()) for delta in chain[1].delta.values())
    assert losses[0][-1] == pytest.approx(40.0 * changed, rel=1e-3) and changed > 0


def test_the_plain_categorys_prompt_is_what_the_stock_node_reads(sd15, sd21, run):
    """The two fill the end of a prompt with different tokens."""
    from attndreambooth.nodes.host.model.text import (
        tokenize_prior_prompt,
        tokenize_training_prompts,
    )

    data = dataset(run)
    for wires in (sd15, sd21):
        [prompt], _ = tokenize_training_prompts(wires.clip, data, 2, "last word")
        stock = tokenize_prior_prompt(wires.clip, "a photo of a person")
        assert prompt.without_placeholder().tokens == stock.tokens
        assert None in prompt.tokens and None not in stock.tokens


def test_off_it_is_no_part_of_a_run(sd15, run, train, chain, output):
    concept = train(
        2, sd15, chain[0], options=options(run, weight_anchor=0.0, prior_prediction=0.0)
    )[0]
    known = runs(output)
    again = train(2, sd15, chain[0])[0]
    assert runs(output) == known and again.digest() == concept.digest() == chain[1].digest()
    assert again.record == concept.record == chain[1].record
    for name in ("weight_anchor", "prior_prediction"):
        assert name not in json.dumps(concept.record)


def test_stage_1_trains_no_weights_and_leaves_it_out(sd15, run, train, chain, output):
    train(1, sd15)
    known = runs(output)
    concept = train(1, sd15, options=options(run, weight_anchor=5.0, prior_prediction=1.0))[0]
    assert runs(output) == known and concept.record == chain[0].record


@pytest.mark.parametrize("name", ["weight_anchor", "prior_prediction"])
@pytest.mark.parametrize("method", ["DreamBooth", "Textual Inversion"])
def test_compared_methods_refuse_it_by_name(sd15, run, name, method):
    from attndreambooth.nodes.compared_methods import BY_LABEL

    widgets: list[Any] = [*BY_LABEL[method].widgets()]
    settings = {widget.id: widget.default for widget in widgets}
    with refuses(f"{name} = 2.0: {BY_LABEL[method].name} does not have it"):
        run(
            "AttnDBTrainComparedMethod",
            **sd15.named(),
            dataset=dataset(run),
            method={"method": method, **settings},
            options=options(run, **{name: 2.0}),
        )
