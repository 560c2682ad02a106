"""Two processes that share every batch train as one does, and stop together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.prior import Batches, stage
from support.rank_program import REQUEST, STAGES, TWO_PARTS, trained

from attndreambooth.attndb.methods.registry import method_of
from attndreambooth.attndb.training.ranks import Ranks
from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.run_files import result_tensors
from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.tiny_model import tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(tmp_path_factory, host) -> Path:
    """What two processes left of all scenarios."""
    folder = tmp_path_factory.mktemp("ranks")
    program = ROOT / "tests" / "support" / "rank_program.py"
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, program, folder, str(rank), "2"],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"log-{rank}").open("w"),
        )
        for rank in range(2)
    ]
    for process in processes:
        process.wait(900)
    for rank in range(2):
        assert (folder / f"told-{rank}.json").is_file(), (folder / f"log-{rank}").read_text()
    return folder


def told(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"told-{rank}.json").read_text())


@pytest.fixture(scope="module")
def alone(host) -> dict:
    """The same trainings in one process, the batch whole."""
    return {name: trained(name) for name in STAGES}


def norm(tensors) -> float:
    """L2 norm of all of them."""
    return sum(float(value.double().square().sum()) for value in tensors) ** 0.5


def apart(one, other) -> float:
    """L2 norm of the difference of two results."""
    return norm(one[key].double() - other[key].double() for key in one)


@pytest.mark.parametrize("name", [name for name in STAGES if name != "plain"])
def test_two_processes_equal_one_with_the_same_batch(two, alone, name):
    result = alone[name]
    ours = result_tensors(result)
    first, second = (load_file(two / f"{name}-{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys() == ours.keys()
    assert all(torch.equal(first[key], second[key]) for key in ours), "the two have drifted apart"
    weights = (
        norm(tiny_model().unet.state_dict().values()) if name != "stage1" else norm(ours.values())
    )
    assert apart(first, ours) < 1e-5 * weights
    for rank in range(2):
        check_losses(told(two, rank)[name], result.losses)


@pytest.mark.parametrize("name", TWO_PARTS)
def test_a_batch_of_two_parts_gives_the_very_bytes_of_one_process_that_computes_them(two, name):
    """At any rate: what AdamW makes of gradients that are zero but for rounding is the same."""
    parts = result_tensors(trained(name, micro_batch=2))
    ours = load_file(two / f"{name}-0.safetensors")
    assert all(torch.equal(ours[key], value) for key, value in parts.items())


def check_losses(found, losses) -> None:
    """Every share of every step, next to the step's loss."""
    expected = torch.tensor([list(loss.shares.values()) for loss in losses])
    totals = expected.sum(dim=1, keepdim=True)
    assert ((torch.tensor(found) - expected).abs() < 1e-5 * totals).all()


@pytest.mark.parametrize("scenario", ["memory", "memory for a batch"])
def test_memory_that_runs_out_in_one_leaves_the_result_of_both(two, alone, scenario):
    """In a forward pass both compute smaller parts; a batch is encoded once more, by that one."""
    for rank in range(2):
        check_losses(told(two, rank)[scenario], alone["stage2"].losses)


def test_photos_that_one_cannot_encode_stop_both_and_it_says_why(two):
    assert told(two, 0)["never"].startswith("RankStoppedError: another process")
    assert told(two, 1)["never"].startswith("ValueError: out of memory while a photo was encoded")


def test_two_that_were_asked_for_different_trainings_are_refused_with_what_differs(two):
    assert told(two, 0)["same"] == told(two, 1)["same"] == ""
    for rank in range(2):
        assert (
            "processes 1 of this training were asked for another one" in told(two, rank)["differs"]
        )
    assert "config.seed is 2 here and 1 there" in told(two, 1)["differs"]


def test_one_that_is_stopped_stops_the_other_and_one_process_goes_on_with_their_work(two, alone):
    assert told(two, 0)["stopped"].startswith("KeyboardInterrupt")
    assert told(two, 1)["stopped"].startswith("RankStoppedError: another process")
    made, result = gone_on_with(two / "kept")
    assert made == [2], "two of the three steps were in the checkpoint"
    check_weights(result, alone)


def test_what_one_process_began_two_go_on_with(two, alone):
    first, second = (load_file(two / f"begun-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    check_weights(first, alone)


def test_one_that_dies_ends_the_other_with_words_within_a_minute_and_the_run_resumes(two, alone):
    left = json.loads((two / "dead-0.json").read_text())
    assert left["dead"].startswith("RankLostError: another process of this training has died")
    assert left["seconds"] < 60
    made, result = gone_on_with(two / "dead")
    assert made == [1, 2], "the step before it died was in the checkpoint"
    check_weights(result, alone)


def gone_on_with(folder: Path) -> tuple[list[int], dict[str, torch.Tensor]]:
    """The steps that one process makes of what several left there, and what comes of it."""
    made: list[int] = []

    class Noted:
        def due(self, done):
            return False

        def __call__(self, loss, training):
            made.append(loss.step)

    with Run(folder, REQUEST) as run:
        result = trained("stage2", callback=Noted(), run=run)
    return made, result_tensors(result)


def check_weights(found: dict[str, torch.Tensor], alone) -> None:
    """Those of one process, undisturbed."""
    for key, value in result_tensors(alone["stage2"]).items():
        assert torch.allclose(found[key], value, rtol=1e-5, atol=1e-5)


def test_updates_inside_the_backward_pass_are_refused(host, monkeypatch):
    from attndreambooth.attndb.training.training import Training

    ranks = Ranks()
    ranks.size = 2
    config = stage(3, low_memory=True, precision="auto")
    with pytest.raises(ValueError, match="several processes cannot do together"):
        Training(tiny_model(), method_of(config), {"clip_l": torch.zeros(1, 32)}, ranks)
    assert Batches()[0].prior is not None


def test_gradients_are_summed_a_piece_at_a_time(monkeypatch):
    """All in one piece they would be held twice, on a card that has no room for it."""
    from attndreambooth.attndb.training import ranks

    monkeypatch.setattr(ranks, "_SUMMED_AT_ONCE", 10)
    sent = []

    def doubled(tensor):
        sent.append(len(tensor))
        return tensor.mul_(2)

    alone = ranks.Ranks()
    monkeypatch.setattr(alone, "sum", doubled)
    parameters = [torch.nn.Parameter(torch.ones(n)) for n in (4, 6, 1, 25, 3)]
    for number, parameter in enumerate(parameters[:-1]):
        parameter.grad = torch.full_like(parameter, float(number))
    alone.sum_gradients(parameters)
    assert sent == [10, 1, 25, 3]
    assert [float(p.grad.mean()) for p in parameters] == [0.0, 2.0, 4.0, 6.0, 0.0]
