"""The table of compared methods: what is trained, what is kept, and how it is summed up."""

import json
import shutil
from dataclasses import replace
from itertools import product
from threading import Thread

import numpy as np
import pytest
from support.rows import a_row
from support.studio import FakeStudio, JudgingStudio

from attndreambooth.attndb.config.compared import published
from attndreambooth.attndb.config.presets import fast, micro, micro_lora, paper
from attndreambooth.attndb.training import session
from attndreambooth.attndb.training.folder_lock import FolderLock
from attndreambooth.benchmarks.contest import table as table_file
from attndreambooth.benchmarks.contest.contestant import (
    BATCH,
    KNOWN_TEMPLATES,
    OURS,
    TITLES,
    ablations,
    all_contestants,
    beyond,
    contestant,
    faster,
    recipes,
)
from attndreambooth.benchmarks.contest.rows import read_row, read_rows, save_row
from attndreambooth.benchmarks.contest.search import THEN, Search, best_of
from attndreambooth.benchmarks.contest.standings import (
    chance_of,
    difference_lines,
    differences,
    interval,
    kind_lines,
    on_common_concepts,
    standings,
    standings_lines,
    unfinished,
)
from attndreambooth.benchmarks.contest.table import BASE, ORACLE, Asked, Table
from attndreambooth.benchmarks.markdown import markdown
from attndreambooth.benchmarks.record import RecordError
from attndreambooth.benchmarks.search_recipes import TRIALS, record, trial
from attndreambooth.micro.concepts import EVALUATION

PAIRS = [(3, 1e-2), (2, 1e-4), (1, 1e-5)]


def test_a_contestant_is_its_method_with_other_steps_and_rates():
    ours = contestant(OURS, PAIRS)
    assert [(c.steps, c.optimizer.learning_rate) for c in ours.stages] == PAIRS
    assert [c.stage for c in ours.stages] == [1, 2, 3] and ours.samples == 6 * BATCH
    assert {c.data.resolution for c in ours.stages} == {128}
    oft = contestant("oft", [(7, 1e-3)])
    assert oft.stages[0].method == "oft" and oft.stages[0].words.initial == "qwe"
    assert oft.stages[0].orthogonal.constraint == 0 != ours.stages[0].orthogonal.constraint
    assert contestant("neti", [(7, 1e-3)]).stages[0].words.templates == KNOWN_TEMPLATES
    assert contestant("dreambooth", [(7, 1e-3)]).stages[0].words.templates == ()
    with pytest.raises(ValueError, match="oft has 1 stage"):
        contestant("oft", PAIRS)


def test_an_ablation_leaves_one_thing_out():
    ours = contestant(OURS, PAIRS)
    without = {c.name: c.stages for c in ablations(ours)}
    for i in range(3):
        steps = [c.steps for c in without[f"without stage {i + 1}"]]
        assert steps == [0 if i == j else n for j, (n, _) in enumerate(PAIRS)]
    untied = without["without the regulariser"]
    assert all(
        c.regularization.mean_weight == c.regularization.variance_weight == 0 for c in untied
    )
    stronger, anchor, prediction, correction = beyond(ours)
    ties = [
        [(c.regularization.mean_weight, c.regularization.variance_weight) for c in stages]
        for stages in (stronger.stages, paper())
    ]
    assert ties[0] == [(2 * mean, 2 * variance) for mean, variance in ties[1]], "batch 4, not 8"
    assert [c.weight_anchor > 0 for c in anchor.stages] == [False, True, True]
    assert [c.prior_prediction for c in prediction.stages] == [0, 1, 1]
    assert correction.stages == ours.stages and correction.correction > 0


def test_the_recorded_recipes_name_every_row_once():
    names = [c.name for c in all_contestants(recipes())]
    assert names[0] == "AttnDreamBooth" and len(set(names)) == len(names)
    assert set(names) == {
        *(TITLES[kind] for kind in recipes()),
        *(f"without {part}" for part in ("stage 1", "stage 2", "stage 3", "the regulariser")),
        "fast",
        "turbo",
        *(f"+ {idea}" for idea in ("regulariser of batch 8", "weight anchor 0.01")),
        "+ prior by prediction",
        "+ embedding correction 0.2",
    }


def test_fast_is_to_the_recipe_what_the_published_one_is_to_the_papers():
    ours = contestant(OURS, [(3, 1e-2), (2, 1e-4), (500, 2e-6)])
    first, second, third = faster(ours).stages
    assert (first, second) == ours.stages[:2]
    published, paper = fast()[2], ours.stages[2]
    assert third.steps == published.steps
    assert third.optimizer.learning_rate == pytest.approx(published.optimizer.learning_rate)
    assert third.batch_size == paper.batch_size // 2


def test_vico_is_searched_by_the_rate_of_its_image_attention():
    (stage,) = contestant("vico", [(7, 1e-3)]).stages
    assert stage.image_attention.learning_rate == 1e-3
    assert stage.optimizer == published("vico").optimizer
    assert contestant("vico", [(7, 1e-3)]).pairs == [(7, 1e-3)]


def test_means_are_of_the_concepts_that_every_method_has():
    rows = [a_row("ours", "a", 0.2), a_row("ours", "b", 0.4), a_row("theirs", "b", 0.1)]
    assert on_common_concepts(rows) == rows[1:]
    assert on_common_concepts([]) == on_common_concepts([rows[0], rows[2]]) == []


@pytest.mark.parametrize(("kind", "preset"), [(OURS, micro), ("attndreambooth lora", micro_lora)])
def test_a_preset_of_the_toy_model_is_what_the_search_found(kind, preset):
    assert contestant(kind, recipes()[kind]).stages == preset()


@pytest.mark.parametrize("part", ["scores", "training"])
def test_rows_of_other_code_are_not_mixed_in(tmp_path, monkeypatch, part):
    ours = all_contestants(recipes())[0]
    Table(Asked(), tmp_path).fill(FakeStudio(), [ours], EVALUATION[:1])
    if part == "scores":
        monkeypatch.setattr(table_file, "VERSION", 99)
    else:
        monkeypatch.setattr(session, "CODE_VERSION", 99)
    rows = Table(Asked(), tmp_path).found([ours], EVALUATION[:1])
    assert not any(row.method == ours.name for row in rows)
    Table(Asked(), tmp_path).fill(FakeStudio(), [ours], EVALUATION[:1])
    assert len(list(tmp_path.glob("attndreambooth--*.json"))) == 2, "the other row is kept"


def test_every_method_gets_the_same_number_of_trials():
    assert len({len(trials) for trials in TRIALS.values()}) == 1
    for method, pairs in ((m, p) for m, trials in TRIALS.items() for p in trials):
        assert str(pairs[0][0]) in trial(method, pairs).name
    names = {trial(method, p).name for method, trials in TRIALS.items() for p in trials}
    assert len(names) == sum(map(len, TRIALS.values()))
    rows = [a_row("a", "x", 0.2), a_row("b", "x", 0.3)]
    assert best_of(standings(rows)) == ["b"]


def test_the_best_two_of_each_method_see_the_other_concepts(tmp_path):
    height = {0: 0.2, 1: 0.6, 2: 0.1, 3: 0.5, 4: 0.3, 5: 0.4}

    trials = {m: [trial(m, pairs) for pairs in TRIALS[m]] for m in ("dreambooth", "oft")}
    search = Search(Table(Asked(), tmp_path), trials)
    names = [c.name for c in search.everyone]
    studio = JudgingStudio({name: height[i % 6] for i, name in enumerate(names)})
    search.run(studio)
    trained = [c[1:] for c in studio.calls if c[0] == "train"]
    assert len(trained) == 12 * 2 + 4 * 2
    later = {name for name, concept in trained if concept in {c.name for c in THEN}}
    assert later == {names[i] for i in (1, 3, 7, 9)}
    found = record(search)
    assert found["recipes"] == {m: list(TRIALS[m][1]) for m in ("dreambooth", "oft")}
    assert [t["concepts"] for t in found["trials"]["oft"].values()] == [2, 4, 2, 4, 2, 2]


def test_the_interval_is_the_percentile_bootstrap():
    """Against resampling one draw at a time with another generator."""
    values = [0.1, 0.5, 0.4, 0.9, 0.3, 0.6]
    found = interval(values)
    rng = np.random.default_rng(99)
    means = sorted(
        sum(values[int(rng.integers(6))] for _ in values) / len(values) for _ in range(20000)
    )
    assert found.mean == pytest.approx(sum(values) / 6)
    assert found.low == pytest.approx(means[500], abs=0.02)
    assert found.high == pytest.approx(means[-501], abs=0.02)
    assert interval([0.4]).low == interval([0.4]).high == 0.4
    with pytest.raises(ValueError, match="no value"):
        interval([])


def test_differences_are_paired_by_concept():
    ours = [a_row("ours", "a", 0.9), a_row("ours", "b", 0.1), a_row("ours", "c", 0.5)]
    theirs = [a_row("theirs", "a", 0.8), a_row("theirs", "b", 0.0)]
    found = differences(ours + theirs, "ours")["theirs"]["joint"]
    assert found.mean == pytest.approx(-0.1)
    assert found.low == pytest.approx(-0.1) and found.high == pytest.approx(-0.1)
    text = markdown(difference_lines(ours + theirs, "ours"))
    assert difference_lines(ours, "ours") == [], "a head without lines is no table"
    assert "-0.100" in text and "**" not in text and "ours |" in text.splitlines()[0]


def test_a_difference_is_marked_where_a_coin_hardly_ever_gives_it():
    """Against going through all signs; five concepts of one sign are too few."""
    values = [0.3, 0.1, -0.05, 0.2, 0.15, 0.4, 0.02]
    sums = [sum(s * v for s, v in zip(o, values, strict=True)) for o in product((1, -1), repeat=7)]
    expected = sum(abs(total) >= abs(sum(values)) - 1e-9 for total in sums) / len(sums)
    assert chance_of(values) == pytest.approx(expected) and 0 < expected < 0.1
    assert chance_of([0.0, 0.0]) == chance_of([0.3]) == chance_of([0.1, -0.1]) == 1.0
    for count, marked in ((1, False), (5, False), (6, True)):
        ours = [a_row("ours", f"{i}", 0.9) for i in range(count)]
        theirs = [a_row("theirs", f"{i}", 0.8 - 0.01 * i) for i in range(count)]
        (_, line) = difference_lines(ours + theirs, "ours")
        assert all(cell.startswith("**-0.1") == marked for cell in line[1:])


def test_a_method_without_a_row_is_named():
    rows = [a_row("ours", "a", 0.2), a_row("ours", "b", 0.4), a_row("theirs", "b", 0.1)]
    assert unfinished(rows, ["ours", "theirs"], 2).startswith("Not finished: the 1 of 2 concepts")
    assert "no row yet of base" in unfinished(rows[:2], ["ours", "base"], 2)
    assert unfinished(rows[:2], ["ours"], 2) == ""


def test_the_time_of_a_training_that_was_held_up_does_not_decide():
    rows = [a_row("ours", name, 0.2, seconds=s) for name, s in (("a", 60), ("b", 70), ("c", 9000))]
    assert markdown(standings_lines(rows)).endswith("| 8 | 70 s |")


def test_the_table_has_a_line_for_each_method_and_the_mean_of_its_seeds():
    rows = [a_row("ours", "a", 0.2), a_row("ours", "a", 0.4, seed=1), a_row("base", "a", 0.0)]
    assert standings(rows)["ours"]["truth"].mean == pytest.approx(0.3)
    text = markdown(standings_lines(rows))
    assert len(text.splitlines()) == 4 and "| ours | 1 | 0.300" in text
    assert "| ours | 0.30 | 0.15 |" in markdown(kind_lines(rows))


def test_a_row_survives_the_disk_and_a_foreign_one_is_named(tmp_path):
    row = a_row("TI+DB at two", "a", 0.2)
    save_row(row, tmp_path)
    assert read_rows(tmp_path) == [row] and row.file == "tiplusdb-at-two--a--many-0-x.json"
    path = tmp_path / row.file
    for text in ("{", "[]", "{}", json.dumps({"format": 9}), json.dumps({"format": 1, "a": 2})):
        path.write_text(text)
        with pytest.raises(RecordError, match=f"{row.file}.*delete it"):
            read_row(path)


def test_a_table_is_filled_once_and_goes_on_where_it_stopped(tmp_path):
    table, studio = Table(Asked(), tmp_path), FakeStudio()
    ours, *rest = all_contestants(recipes())
    correction = rest[-1]
    table.fill(studio, [ours], EVALUATION[:1])
    assert [c for c in studio.calls if c[0] == "train"] == [("train", ours.name, "hatted-robot")]
    table.fill(studio, [ours, correction], EVALUATION[:2])
    trained = [c for c in studio.calls if c[0] == "train"]
    assert len(trained) == 4 and ("draw", "learned", 0.2) in studio.calls
    rows = table.found([ours, correction], EVALUATION[:2])
    assert [r.method for r in rows[::2]] == [ORACLE, BASE, ours.name, correction.name]
    assert rows[0].values["joint"] == 1.0 and rows[0].seconds == 0.0 and rows[4].seconds == 3.0


@pytest.mark.parametrize("other", ["images", "seed", "stages"])
def test_rows_of_other_settings_are_not_mixed_in(tmp_path, other):
    ours = all_contestants(recipes())[0]
    Table(Asked(), tmp_path).fill(FakeStudio(), [ours], EVALUATION[:1])
    changed = Asked() if other == "stages" else Asked(**{other: 7})
    if other == "stages":
        ours = replace(ours, stages=(*ours.stages[:2], ours.stages[2].with_(steps=9)))
    rows = Table(changed, tmp_path).found([ours], EVALUATION[:1])
    assert all(row.method in (ORACLE, BASE) for row in rows) and (other == "stages" or not rows)


def test_a_row_that_another_process_makes_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("attndreambooth.benchmarks.contest.table.POLL_S", 0.01)
    table, studio, theirs = Table(Asked(), tmp_path), FakeStudio(), tmp_path / "theirs"
    ours = all_contestants(recipes())[0]
    Table(Asked(), theirs).fill(FakeStudio(), [ours], EVALUATION[:1])
    name = next(path.name for path in theirs.glob("attndreambooth--*.json"))
    lock = FolderLock(tmp_path / f"{name}.lock")
    lock.acquire()
    filling = Thread(target=table.fill, args=(studio, [ours], EVALUATION[:1]))
    filling.start()
    filling.join(0.3)
    assert filling.is_alive()
    shutil.copy(theirs / name, tmp_path)
    lock.release()
    filling.join(30)
    assert not filling.is_alive() and not any(c[0] == "train" for c in studio.calls)
