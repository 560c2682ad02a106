"""A disk that fills up while a real server trains or saves: no work is lost, no file is half."""

from __future__ import annotations

import re
import sys

import pytest
from safetensors import safe_open
from support.graph import Graph
from support.outcome import ExecutionFailed
from support.training import FaultyServer, kept, losses, training, unfinished_files

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"),
        reason="a full disk is made by tmpfs or prlimit, which only Linux has",
    ),
]

STEPS, EVERY, LEFT = 20, 6, 700_000
"""A checkpoint of stage 2 is 10.8 MB, its result and its concept 3.6 MB: neither fits in LEFT."""


def prompt(*, save: str = "", **widgets) -> dict:
    """Stage 2, its loss curve shown; with `save`, its concept saved."""
    graph = Graph()
    values = {"steps": STEPS, "checkpoint_every": EVERY, **widgets}
    training(graph, save=save, show=True, **values)
    return graph.prompt


@pytest.fixture(scope="module")
def expected(_faulty: FaultyServer) -> dict[str, bytes]:
    """What the training with Save Concept leaves on a disk with room."""
    _faulty.run(prompt(save="disk"), timeout=600)
    files = kept(_faulty.base, "disk")
    assert sum(name.endswith(".safetensors") for name in files) == 3
    _faulty.forget("*")
    return files


def test_a_checkpoint_that_cannot_be_written_is_a_warning_and_the_next_one_is(faulty, expected):
    disk = faulty.disks["output"]
    before = len(faulty.log())
    changes = {7: lambda: disk.fill(LEFT), 13: disk.free}
    with faulty.pausing(changes):
        outcome = faulty.run(prompt(save="disk"))
    log = faulty.log()[before:]
    assert "checkpoint after step 6:" in log and "checkpoint after step 18:" in log
    assert "checkpoint after step 12:" not in log
    assert "step 12: no checkpoint could be written to" in log
    for told in (str(faulty.run_folder()), "goes on, kept only up to step 6", "of step 18 is"):
        assert told in log
    if disk.real:
        assert re.search(r"No space left on device; [67]\d\d\.\d kB free", log)
    texts = outcome.texts()
    assert any("step 12: no checkpoint could be written" in text for text in texts)
    assert "no checkpoint" not in texts[-1], "it was written again after the disk was freed"
    assert unfinished_files(faulty.base) == []
    assert kept(faulty.base, "disk") == expected


def test_a_result_that_cannot_be_kept_still_goes_out_on_the_wires(faulty, expected):
    disk = faulty.disks["output"]
    before = len(faulty.log())
    graph = prompt(checkpoint_every=0)  # a checkpoint would give its space to the result
    with faulty.pausing({13: lambda: disk.fill(LEFT)}):
        outcome = faulty.run(graph)
    run, log = faulty.run_folder(), faulty.log()[before:]
    assert not (run / "result.safetensors").exists()
    for said in (log, outcome.texts()[-1]):
        assert f"the result could not be kept in {run}" in said
        assert "3.6 MB needed" in said and " free)" in said
        assert "Free space there" in said and "Save Concept keeps it" in said
    assert unfinished_files(faulty.base) == []

    disk.free()
    faulty.free()  # the host forgets the stage's outputs, as it does when memory is short
    faulty.run(prompt(checkpoint_every=0, save="disk"))
    later = faulty.log()[before + len(log) :]
    assert "step 20/20" not in later, "its concept was not lost: it is not trained again"
    assert kept(faulty.base, "disk") == expected


def test_a_result_takes_the_checkpoints_place_where_both_do_not_fit(faulty, expected):
    disk = faulty.disks["output"]
    if not disk.real:
        pytest.skip("a limit on the size of one file leaves no room by removing another")
    before = len(faulty.log())
    with faulty.pausing({13: lambda: disk.fill(LEFT)}):
        faulty.run(prompt(save="disk"))
    assert "checkpoint.safetensors gives its space to the result" in faulty.log()[before:]
    assert kept(faulty.base, "disk") == expected


def test_a_training_is_not_begun_on_a_full_disk_and_a_finished_one_answers(faulty, expected):
    disk = faulty.disks["output"]
    if not disk.real:
        pytest.skip("a limit on the size of files is not a disk without any space")
    faulty.run(prompt())
    run = faulty.run_folder()
    faulty.free()
    disk.fill()
    outcome = faulty.run(prompt())
    [text] = outcome.texts()
    assert text.startswith("finished before; write: <my-robot> robot\n")
    assert f"kept in output/attndb/{run.name};" in text

    with pytest.raises(ExecutionFailed) as caught:
        faulty.run(prompt(seed=4))
    message = caught.value.message
    assert message.startswith("Stage 2: Train Cross-Attention: ")
    for told in ("No space left on device", "run.json", str(run.parent), "Free space"):
        assert told in message
    assert unfinished_files(faulty.base) == []
    assert not list(faulty.base.glob("output/attndb/*/losses.jsonl"))[1:]

    disk.free()
    faulty.run(prompt(seed=4))
    assert sorted(len(losses(r)) for r in faulty.base.glob("output/attndb/*")) == [STEPS] * 2


def test_save_concept_on_a_full_disk_names_the_file_and_touches_nothing(faulty, expected):
    disk = faulty.disks["models"]
    faulty.run(prompt(save="disk"))
    earlier = kept(faulty.base, "disk")
    disk.fill(LEFT)
    with pytest.raises(ExecutionFailed) as caught:
        faulty.run(prompt(save="disk", seed=4))
    message = caught.value.message
    assert message.startswith("Save Concept: ")
    for told in ("disk-2.safetensors could not be written", str(faulty.base / "models/loras")):
        assert told in message
    assert "Free space" in message
    assert re.search(r"[67]\d\d\.\d kB free", message) or not disk.real
    assert unfinished_files(faulty.base) == []
    assert {name: kept(faulty.base, "disk")[name] for name in earlier} == earlier
    assert not list(faulty.base.glob("models/*/disk-2.safetensors"))

    disk.free()
    faulty.run(prompt(save="disk", seed=4))
    for path in faulty.base.glob("models/*/disk-2.safetensors"):
        with safe_open(str(path), "np") as file:
            assert file.keys()
    assert len(list(faulty.base.glob("models/*/disk-2.safetensors"))) == 2
