"""After a training the server's memory is what it was before, however the training ended."""

from __future__ import annotations

import pytest
from support.graph import Graph
from support.outcome import ExecutionFailed, Interrupted
from support.training import FaultyServer, training

pytestmark = [pytest.mark.host, pytest.mark.slow]

GROWTH = 50 << 20
ROUNDS = 3


def everything(seed: int, stage: int) -> dict:
    """A training with checkpoints, previews and maps, and a picture drawn with what it made."""
    graph = Graph()
    node = training(graph, stage, save="memory", seed=seed, steps=6, checkpoint_every=2)
    node.inputs["preview"] = graph.add(
        "AttnDBTrainingPreview",
        prompt="a photo of a {}",
        every=3,
        steps=2,
        cfg=5.0,
        width=64,
        height=64,
        seed=0,
        attention_maps=True,
    )[0]
    vae = node.inputs["vae"]
    graph.sample(node[1], node[2], vae, "a photo of a <my-robot> robot", seed=seed)
    return graph.prompt


def test_tensors_are_what_they_were_and_the_process_does_not_grow(faulty: FaultyServer):
    before = faulty.freed_memory()
    faulty.run(everything(0, 3))
    while_cached = faulty.get("/attndb_test/memory")
    assert while_cached["tensors"] > before["tensors"] + (10 << 20), "the probe sees nothing"
    warm = faulty.freed_memory()
    assert warm["tensors"] == before["tensors"]
    for seed in range(1, ROUNDS + 1):
        faulty.run(everything(seed, 2 + seed % 2))
        after = faulty.freed_memory()
        assert after["tensors"] == before["tensors"], f"after training {seed}"
    assert after["resident"] - warm["resident"] < GROWTH


def test_a_training_that_failed_or_was_cancelled_gives_its_memory_back(faulty: FaultyServer):
    before = faulty.freed_memory()
    for kind in ("nan", "oom"):
        faulty.fault(kind, after=3)
        with pytest.raises(ExecutionFailed):
            faulty.run(everything(10, 3))
        faulty.fault(None)
        assert faulty.freed_memory()["tensors"] == before["tensors"], kind

    def cancel(event):
        if event["type"] == "progress" and event["data"]["value"] >= 2:
            faulty.interrupt()

    with pytest.raises(Interrupted):
        faulty.run(everything(11, 3), on_event=cancel)
    assert faulty.freed_memory()["tensors"] == before["tensors"]
