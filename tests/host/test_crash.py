"""kill -9 of a real server in mid-stage: queued again, the training ends in the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.graph import Graph
from support.outcome import HostError
from support.server import HostServer

pytestmark = [pytest.mark.host, pytest.mark.slow]

STEPS, EVERY, KILLED_AT = 12, 5, 8


def graph() -> dict:
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
        seed=3,
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


def kept(base: Path) -> dict[str, bytes]:
    """What the training left, by path below its base."""
    files = [*base.glob("models/*/crashed.safetensors"), *base.glob("output/attndb/*/*")]
    return {str(f.relative_to(base)): f.read_bytes() for f in files if f.name != "lock"}


def test_a_killed_training_queued_again_ends_in_the_same_bytes(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with HostServer(whole) as server:
        server.run(graph(), timeout=600)
    expected = kept(whole)
    assert sum(name.endswith("result.safetensors") for name in expected) == 1

    with HostServer(broken) as server:

        def kill(event):
            data = event["data"]
            if event["type"] == "progress" and data.get("max") == STEPS:
                if data["value"] >= KILLED_AT:
                    server.kill()

        with pytest.raises(HostError):
            server.run(graph(), timeout=600, on_event=kill)
    [run] = broken.glob("output/attndb/*")
    assert (run / "checkpoint.safetensors").is_file()
    assert not (run / "result.safetensors").exists()
    assert len((run / "losses.jsonl").read_text().splitlines()) >= KILLED_AT

    with HostServer(broken) as server:
        server.run(graph(), timeout=600)
        assert f"resuming at step {EVERY + 1}" in server.log()
    assert kept(broken) == expected


def test_a_run_folder_that_another_process_holds_is_refused(tmp_path):
    fcntl = pytest.importorskip("fcntl", reason="the lock is taken by flock here")

    base = tmp_path / "base"
    with HostServer(base) as server:
        server.run(graph(), timeout=600)
        [run] = base.glob("output/attndb/*")
        request = json.loads((run / "run.json").read_text())
        assert request["config"]["steps"] == STEPS
        shutil.rmtree(base / "models" / "loras")
        server.free()
        with (run / "lock").open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with pytest.raises(Exception, match="in use by another training"):
                server.run(graph(), timeout=600)
