"""kill -9 of a real server in mid-stage: queued again, the training ends in the same bytes."""

from __future__ import annotations

import json

import pytest
from support.graph import Graph
from support.outcome import HostError
from support.training import FaultyServer, kept

pytestmark = [pytest.mark.host, pytest.mark.slow]

STEPS, EVERY, KILLED_AT = 12, 5, 8


def graph(seed: int = 3) -> dict:
    """Stage 2 on the embedded model, saved."""
    wires = Graph()
    base = wires.add("AttnDBLoadMicroModel")
    photos = wires.add("AttnDBMicroConcept", concept="hatted-robot")
    dataset = wires.add(
        "AttnDBConceptDatasetFromImages",
        images=photos[0],
        category=photos[1],
        placeholder="<my-robot>",
        template="a photo of a {}",
    )
    stage = wires.add(
        "AttnDBStage2TrainCrossAttention",
        model=base[0],
        clip=base[1],
        vae=base[2],
        dataset=dataset[0],
        steps=STEPS,
        learning_rate=1e-4,
        batch_size=4,
        seed=seed,
        resolution=64,
        micro_batch=0,
        precision="fp32",
        augmentation="reference",
        mask_fill=True,
        latent_pool=0,
        category_tie="last word",
        checkpoint_every=EVERY,
    )
    wires.add("AttnDBSaveConcept", concept=stage[0], name="crashed")
    return wires.prompt


def test_a_killed_training_queued_again_ends_in_the_same_bytes(faulty: FaultyServer):
    faulty.run(graph(), timeout=600)
    expected = kept(faulty.base, "crashed")
    assert sum(name.endswith("result.safetensors") for name in expected) == 1
    faulty.forget("crashed")

    def kill(event):
        data = event["data"]
        if event["type"] == "progress" and data.get("max") == STEPS:
            if data["value"] >= KILLED_AT:
                faulty.kill()

    with pytest.raises(HostError):
        faulty.run(graph(), timeout=600, on_event=kill)
    faulty.start()  # first of all: other tests want it, whatever is found here
    run = faulty.run_folder()
    assert (run / "checkpoint.safetensors").is_file()
    assert not (run / "result.safetensors").exists()
    assert len((run / "losses.jsonl").read_text().splitlines()) >= KILLED_AT

    before = len(faulty.log())
    faulty.run(graph(), timeout=600)
    assert f"resuming at step {EVERY + 1}" in faulty.log()[before:]
    assert kept(faulty.base, "crashed") == expected


def test_a_run_folder_that_another_process_holds_is_refused(faulty: FaultyServer):
    fcntl = pytest.importorskip("fcntl", reason="the lock is taken by flock here")

    faulty.run(graph(seed=4), timeout=600)
    run = faulty.run_folder()
    request = json.loads((run / "run.json").read_text())
    assert request["config"]["steps"] == STEPS
    faulty.free()
    with (run / "lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(Exception, match="in use by another training"):
            faulty.run(graph(seed=4), timeout=600)
