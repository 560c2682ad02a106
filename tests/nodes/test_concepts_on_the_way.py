"""Training Options keeps concepts while it trains, and what is needed to go on with more steps."""

from __future__ import annotations

from pathlib import Path

import pytest

KINDS = ("embeddings", "loras")


def options(run, **changes):
    return run("AttnDBTrainingOptions", **changes)[0]


def kept(home: Path, kind: str) -> list[str]:
    return sorted(path.stem for path in home.glob(f"{kind}/attndb/*/step-*.safetensors"))


def test_the_newest_concepts_stay_and_load_concept_gives_them(home, output, sd15, train, run):
    asked = options(run, checkpoint_concepts=1, kept_concepts=2)
    final = train(2, sd15, steps=5, options=asked)[0]
    assert kept(home, "embeddings") == kept(home, "loras") == ["step-00003", "step-00004"]
    [folder] = (home / "embeddings" / "attndb").iterdir()
    [trained] = (path.name for path in output.glob("attndb/*stage2*"))
    assert folder.name == trained
    concept, trigger = run("AttnDBLoadConcept", name=f"attndb/{folder.name}/step-00004")
    assert trigger == final.trigger
    assert concept.record["stages"][-1]["after_steps"] == 4
    assert concept.digest() == train(2, sd15, steps=4)[0].digest() != final.digest()
    plain = train(2, sd15, steps=5, seed=8)[0]
    assert plain.digest() != final.digest() and len(list(folder.iterdir())) == 2


def test_files_of_others_in_that_folder_are_left_alone(home, sd15, train, run, trained):
    from attndreambooth.nodes.host.concept_store import save_concept
    from attndreambooth.nodes.host.kept_concepts import keep_checkpoint

    theirs = save_concept(trained, "attndb/a run/step-00001".replace(" ", "-"))
    with_steps = {**trained.record["stages"][-1], "after_steps": 2}
    for done in (2, 3):
        stages = [*trained.record["stages"][:-1], {**with_steps, "after_steps": done}]
        concept = trained.with_record({**trained.record, "stages": stages})
        keep_checkpoint(concept, "a-run", done, 1)
    left = sorted(path.stem for path in (home / "embeddings" / "attndb" / "a-run").iterdir())
    assert left == ["step-00001", "step-00003"] and theirs.endswith("step-00001")


def test_weights_that_a_crash_left_without_their_embedding_go_with_the_next(home, sd15, train):
    from attndreambooth.nodes.host.kept_concepts import keep_checkpoint

    trained = train(2, sd15, steps=1)[0]

    def keep(done: int) -> None:
        stages = [*trained.record["stages"][:-1], {**trained.record["stages"][-1]}]
        stages[-1]["after_steps"] = done
        keep_checkpoint(trained.with_record({**trained.record, "stages": stages}), "cut", done, 9)

    keep(1)
    keep(2)
    (home / "embeddings" / "attndb" / "cut" / "step-00001.safetensors").unlink()
    theirs = home / "loras" / "attndb" / "cut" / "step-00000.safetensors"
    theirs.write_bytes(b"of somebody else")
    keep(3)
    left = [sorted(p.stem for p in (home / kind / "attndb/cut").iterdir()) for kind in KINDS]
    assert left == [["step-00002", "step-00003"], ["step-00000", "step-00002", "step-00003"]]


def test_the_newest_stay_beyond_step_99999_and_are_listed_in_order(home, trained):
    from attndreambooth.nodes.host.kept_concepts import keep_checkpoint
    from attndreambooth.nodes.host.paths import saved_concepts

    for done in (99_900, 99_950, 100_000, 100_050):
        stages = [*trained.record["stages"][:-1], {**trained.record["stages"][-1]}]
        stages[-1]["after_steps"] = done
        keep_checkpoint(trained.with_record({**trained.record, "stages": stages}), "long", done, 3)
    names = [name for name in saved_concepts() if name.startswith("attndb/long/")]
    assert names == [f"attndb/long/step-{done}" for done in ("99950", "100000", "100050")]


@pytest.mark.parametrize("stage", [1, 2])
def test_more_steps_go_on_where_the_state_was_kept(output, sd15, train, run, stage, caplog):
    caplog.set_level("INFO")
    asked = options(run, keep_state=True)
    train(stage, sd15, steps=2, options=asked)
    concept = train(stage, sd15, steps=3, options=asked)[0]
    assert "resuming at step 3" in caplog.text
    import folder_paths

    folder_paths.set_output_directory(str(output.parent / "another"))
    assert concept.digest() == train(stage, sd15, steps=3)[0].digest()
