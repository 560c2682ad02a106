"""Load Kept Concepts gives what was kept on the way to a concept, in order, and nothing else."""

from __future__ import annotations

import shutil

import pytest

pytestmark = pytest.mark.usefixtures("nothing_kept_before")
NODE = "AttnDBLoadKeptConcepts"


@pytest.fixture
def keeping(run):
    """Options that keep a concept after every step."""
    return run("AttnDBTrainingOptions", checkpoint_concepts=1)[0]


def steps(concepts) -> list[tuple[int, int | None]]:
    """How many stages each has, and after how many steps it is."""
    found = [concept.record["stages"] for concept in concepts]
    return [(len(stages), stages[-1].get("after_steps")) for stages in found]


def kept(run, concept, **changes):
    return run(NODE, concept=concept, **changes)[0]


def test_they_come_in_order_and_the_concept_itself_at_the_end(run, train, sd15, keeping):
    one = train(1, sd15, steps=3, options=keeping)[0]
    two = train(2, sd15, one, steps=4, options=keeping)[0]
    found = kept(run, two)
    assert steps(found) == [(2, 1), (2, 2), (2, 3), (2, None)] and found[-1] is two
    assert found[1].digest() == train(2, sd15, one, steps=2)[0].digest()
    both = kept(run, two, stages="all")
    assert steps(both) == [(1, 1), (1, 2), *steps(found)]
    assert steps(kept(run, one)) == [(1, 1), (1, 2), (1, None)]
    assert steps(kept(run, both[1])) == [(1, 1), (1, 2)], "on the way to one that was kept"


def test_they_are_found_for_a_saved_concept(run, train, sd15, keeping):
    one = train(1, sd15, steps=3, options=keeping)[0]
    run("AttnDBSaveConcept", concept=one, name="with-kept", metadata="no photos")
    loaded = run("AttnDBLoadConcept", name="with-kept")[0]
    assert steps(kept(run, loaded)) == [(1, 1), (1, 2), (1, None)]


def test_those_of_another_training_are_not_among_them(run, train, sd15, keeping):
    one = train(1, sd15, steps=3, options=keeping)[0]
    average = run("AttnDBTrainingOptions", checkpoint_concepts=1, ema_decay=0.9)[0]
    for changes in ({"seed": 8, "options": keeping}, {"options": average}):
        other = train(1, sd15, steps=3, **changes)[0]
        assert other.digest() != one.digest()
    assert steps(found := kept(run, one)) == [(1, 1), (1, 2), (1, None)]
    assert found[1].digest() == train(1, sd15, steps=2)[0].digest()


def test_a_training_that_went_on_has_those_of_the_shorter_one(run, train, sd15):
    asked = run("AttnDBTrainingOptions", checkpoint_concepts=1, keep_state=True)[0]
    short = train(1, sd15, steps=3, options=asked)[0]
    long = train(1, sd15, steps=5, options=asked)[0]
    assert steps(kept(run, long)) == [(1, 1), (1, 2), (1, 3), (1, 4), (1, None)]
    assert steps(kept(run, short)) == [(1, 1), (1, 2), (1, None)]


def test_of_many_those_at_even_distances_are_loaded(run, train, sd15):
    asked = run("AttnDBTrainingOptions", checkpoint_concepts=1, kept_concepts=20)[0]
    one = train(1, sd15, steps=9, options=asked)[0]
    assert steps(kept(run, one, most=5)) == [(1, 1), (1, 3), (1, 5), (1, 7), (1, None)]
    assert steps(kept(run, one, most=2)) == [(1, 1), (1, None)]
    assert len(kept(run, one, most=12)) == 9


def test_columns_say_the_step_and_the_best_is_saved(run, train, sd15, keeping):
    from attndreambooth.nodes.columns import concept_names

    one = train(1, sd15, steps=3, options=keeping)[0]
    names = ["after stage 1, step 1", "after stage 1, step 2", "after stage 1"]
    assert concept_names(kept(run, one)) == names
    name, best = run("AttnDBSaveConcept", concept=kept(run, one)[0], name="best-step")
    assert name == "best-step" and best.record["stages"][-1]["after_steps"] == 1


def test_nothing_kept_names_the_setting_and_that_a_finished_run_answers(run, train, sd15, output):
    one = train(1, sd15, steps=2)[0]
    told = r"Load Kept Concepts: no concept is kept .* \(2 steps .* Set checkpoint_concepts .*"
    with pytest.raises(RuntimeError, match=told + "Delete that first"):
        kept(run, one)
    keeping = run("AttnDBTrainingOptions", checkpoint_concepts=1)[0]
    with pytest.raises(RuntimeError, match=told):
        kept(run, train(1, sd15, steps=2, options=keeping)[0])
    [folder] = output.glob("attndb/*stage1*")
    shutil.rmtree(folder)
    assert len(kept(run, train(1, sd15, steps=2, options=keeping)[0])) == 2


def test_a_concept_of_other_programs_is_refused(run, trained):
    stranger = trained.with_record({**trained.record, "stages": []})
    with pytest.raises(RuntimeError, match="does not say how it was trained"):
        kept(run, stranger)


def test_a_weight_file_that_is_gone_is_named(run, train, sd15, keeping, home):
    two = train(2, sd15, steps=3, options=keeping)[0]
    [weights] = home.glob("loras/attndb/*/step-00001.safetensors")
    weights.unlink()
    with pytest.raises(RuntimeError, match=r"Load Kept Concepts: step-00001.* is missing"):
        kept(run, two)


def test_it_runs_again_only_when_what_was_kept_changes(
    run, train, sd15, keeping, home, monkeypatch
):
    from attndreambooth.nodes import kept_concepts
    from attndreambooth.nodes.host.linked import LinkedFiles
    from attndreambooth.nodes.kept_concepts import LoadKeptConcepts

    nothing_yet = LinkedFiles(kept_concepts.kept_state)
    monkeypatch.setattr(kept_concepts, "_loaded", nothing_yet)
    state = LoadKeptConcepts.fingerprint_inputs
    before = state(concept=None, stages="last", most=6)
    one = train(1, sd15, steps=3, options=keeping)[0]
    kept(run, one)
    assert state() == before, "the training was in the same prompt: what is behind it stays"
    train(1, sd15, steps=3, seed=8, options=keeping)
    assert state() == before, "another training"
    for path in home.glob("embeddings/attndb/*/step-00002.safetensors"):
        path.unlink()
    after = state()
    assert after != before and state() == after
