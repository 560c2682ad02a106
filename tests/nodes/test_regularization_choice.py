"""Attention Map Regularization: what each stage of each preset is tied with."""

from __future__ import annotations

import inspect

import pytest
from support.stages import STAGES, dataset

from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.config.regularization import Regularization


@pytest.fixture
def asked(host, run, monkeypatch):
    """Runs a training node up to its training: the settings of its stages."""
    from attndreambooth.nodes import stages

    class ReachedError(Exception):
        pass

    def reached(wires, data, named, *rest, **more):
        raise ReachedError([config for _, config in named])

    monkeypatch.setattr(stages, "train_stages", reached)

    def configs(node, **values):
        wires = dict.fromkeys(("model", "clip", "vae", "dataset"))
        with pytest.raises(ReachedError) as told:
            run(node, **wires, **values)
        return told.value.args[0]

    return configs


def choice(run, **values):
    return run("AttnDBAttentionMapRegularization", **values)[0]


def weights(configs):
    return [(c.regularization.mean_weight, c.regularization.variance_weight) for c in configs]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_tie_twice_as_strong_is_twice_each_stages_own(run, asked, preset):
    plain = asked("AttnDBAllStages", preset=preset)
    twice = asked("AttnDBAllStages", preset=preset, regularization=choice(run, strength=2.0))
    assert weights(twice) == [(2 * mean, 2 * variance) for mean, variance in weights(plain)]
    assert weights(twice)[0][1] == 0  # no term that the first stage never has
    same = asked("AttnDBAllStages", preset=preset, regularization=choice(run))
    assert [c.identity() for c in same] == [c.identity() for c in plain]
    none = asked("AttnDBAllStages", preset=preset, regularization=choice(run, strength=0.0))
    assert weights(none) == [(0, 0)] * 3


@pytest.mark.parametrize("preset", PRESETS)
def test_typed_weights_are_those_of_every_stage_as_they_were(run, asked, preset):
    """Of graphs that were saved before strength was there: the same run."""
    node = next(
        n for n in nodes() if n.define_schema().node_id == "AttnDBAttentionMapRegularization"
    )
    old = node.execute(mean_weight=2.0, variance_weight=5.0, layers="up").args[0]
    before = Regularization(mean_weight=2.0, variance_weight=5.0, layers="up")
    plain = asked("AttnDBAllStages", preset=preset)
    typed = asked("AttnDBAllStages", preset=preset, regularization=old)
    assert [c.identity() for c in typed] == [
        c.with_(regularization=before).identity() for c in plain
    ]
    one = asked("AttnDBAllStages", preset=preset, regularization=choice(run, mean_weight=3.0))
    assert weights(one) == [(3.0, variance) for _, variance in weights(plain)]


def nodes():
    from attndreambooth.nodes import all_nodes

    return all_nodes()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_node_has_its_published_weights_times_the_strength(run, asked, stage):
    [plain] = asked(STAGES[stage][0])
    [twice] = asked(STAGES[stage][0], regularization=choice(run, strength=2.0))
    own = PRESETS["paper"]()[stage - 1].regularization
    assert plain.regularization == own
    assert twice.regularization == own.times(2.0)
    [typed] = asked(STAGES[stage][0], regularization=choice(run, variance_weight=7.0))
    assert weights([typed]) == [(own.mean_weight, 7.0)]


def test_what_came_later_stands_behind_what_saved_graphs_have(host):
    node = next(
        n for n in nodes() if n.define_schema().node_id == "AttnDBAttentionMapRegularization"
    )
    inputs = node.define_schema().inputs
    names = [one.id for one in inputs]
    assert names == ["mean_weight", "variance_weight", "layers", "inside_mask", "strength"]
    assert inputs[-1].optional and inputs[-1].default == 1.0
    assert inspect.signature(node.execute).parameters["strength"].default == 1.0


def test_the_record_says_the_weights_that_were_used(run, sd15):
    concept = run(
        STAGES[1][0],
        **sd15.named(),
        dataset=dataset(run),
        **{"steps": 1, "batch_size": 1, "resolution": 64, "latent_pool": 1},
        regularization=choice(run, strength=2.0),
    )[0]
    record = concept.record["stages"][-1]["regularization"]
    assert (record["mean_weight"], record["variance_weight"]) == (0.2, 0.0)
    assert "strength" not in record


def test_weights_of_later_stages_in_the_first_are_told_under_the_node(run, sd15, monkeypatch):
    from attndreambooth.nodes.host import workbench

    shown = []
    monkeypatch.setattr(workbench, "show_text", shown.append)
    run(
        STAGES[1][0],
        **sd15.named(),
        dataset=dataset(run),
        **{"steps": 1, "batch_size": 1, "resolution": 64, "latent_pool": 1},
        regularization=choice(run, mean_weight=2.0, variance_weight=5.0),
    )
    [text] = [text for text in shown if "attention map regulariser" in text]
    assert text.startswith("stage 1 has weights 2 / 5")
