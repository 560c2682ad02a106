"""The search for a recipe of a quarter of the training."""

import json

import pytest
from support.studio import JudgingStudio

from attndreambooth.attndb.config.presets import micro_turbo
from attndreambooth.benchmarks import search_turbo
from attndreambooth.benchmarks.contest.contestant import OURS, recipes
from attndreambooth.benchmarks.contest.search import Search
from attndreambooth.benchmarks.contest.table import Asked, Table
from attndreambooth.benchmarks.search_recipes import trial
from attndreambooth.micro.concepts import TUNING

RECIPE = trial(OURS, recipes()[OURS])
TRIALS = search_turbo.turbos(RECIPE)


@pytest.mark.parametrize("one", TRIALS, ids=lambda c: c.name)
def test_no_trial_costs_more_than_a_quarter(one):
    """Stages 1 and 2 make no gradients of most weights and cost two thirds of stage 3's FLOPs:
    samples that move from stage 2 to stage 3 count one and a half times."""
    share = (1, 1, 1.5)

    def cost(contestant):
        return sum(
            w * c.steps * c.batch_size for w, c in zip(share, contestant.stages, strict=True)
        )

    assert cost(one) <= cost(RECIPE) / 4 and one.samples <= RECIPE.samples / 4


def test_trials_differ_from_the_recipe_as_they_say():
    assert len({c.name for c in TRIALS}) == len(TRIALS)
    assert len({str([s.identity() for s in c.stages]) for c in TRIALS}) == len(TRIALS)
    quarter, _, _, decayed, *_ = TRIALS
    for stage, short, cosine in zip(RECIPE.stages, quarter.stages, decayed.stages, strict=True):
        assert short == stage.with_(steps=stage.steps // 4)
        own = cosine.optimizer
        assert own.learning_rate == 2 * stage.optimizer.learning_rate
        assert own.schedule == "cosine" and own.warmup_steps == cosine.steps // 10 > 0


@pytest.mark.parametrize(("height", "reaches"), [(0.6, True), (0.5, True), (0.4, False)])
def test_the_record_says_whether_the_best_reaches_the_recipe(tmp_path, height, reaches):
    studio = JudgingStudio({RECIPE.name: 0.5, TRIALS[4].name: height, TRIALS[2].name: 0.3})
    search = Search(Table(Asked(), tmp_path), {search_turbo.KIND: TRIALS}, search_turbo.FINALISTS)
    search.table.fill(studio, [RECIPE], TUNING)
    search.run(studio)
    found = json.loads(json.dumps(search_turbo.record(search, RECIPE)))
    assert found["best"] == TRIALS[4].name and found["reaches_the_recipe"] is reaches
    assert found["recipe"]["joint"] == 50 and found["recipe"]["concepts"] == 4
    assert sum(t["concepts"] == 4 for t in found["trials"].values()) == search_turbo.FINALISTS
    assert found["settings"].keys() == found["trials"].keys() == {c.name for c in TRIALS}
    assert max(found["share_of_samples"].values()) <= 0.25


def test_preset_micro_turbo_is_the_recorded_best():
    found = json.loads(search_turbo.RECORD.read_text(encoding="utf-8"))
    for stage, recorded in zip(micro_turbo(), found["settings"][found["best"]], strict=True):
        assert json.loads(json.dumps(stage.identity())) == recorded
    assert found["reaches_the_recipe"] and found["recipe"]["name"] == RECIPE.name
