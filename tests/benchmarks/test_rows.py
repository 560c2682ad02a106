"""The benchmarks' own machinery: rows hold what is promised, nothing is lost when memory is."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

CPU = torch.device("cpu")
PROMISED = ("time_ours_s", "time_published_s", "time_ratio", "device", "size", "stage", "precision")


@pytest.fixture(scope="module")
def tiny(host):
    from attndreambooth.benchmarks.sizes import tiny

    return tiny()


def timed_here():
    """Precisions that are timed on this CPU: bf16 where it has the products."""
    from attndreambooth.attndb.models.precision import has_bf16_products

    return ("fp32", "bf16") if has_bf16_products(CPU) else ("fp32",)


def without_products(monkeypatch):
    from attndreambooth.attndb.models import precision

    monkeypatch.setattr(precision, "has_bf16_products", lambda device: device.type != "cpu")


def test_a_comparison_has_a_row_per_stage_and_precision(tiny):
    from attndreambooth.benchmarks.comparison import times_of

    rows = times_of(tiny, (1, 3), rounds=2)
    assert [(r["stage"], r["precision"]) for r in rows] == [
        (stage, precision) for stage in (1, 3) for precision in timed_here()
    ]
    for row in rows:
        assert set(PROMISED) <= set(row)
        assert row["time_ratio"] == pytest.approx(row["time_published_s"] / row["time_ours_s"])
        assert row["time_published_s"] > row["encoding_published_s"] > 0
        ratios = "processor_ratio_without_encoding", "processor_ratio_encoding_every_step"
        assert all(row[name] < row["processor_ratio"] for name in ratios)


def test_sides_that_do_not_fit_together_give_the_same_row(tiny):
    from attndreambooth.benchmarks.comparison import (
        row_apart,
        times_of,
        times_of_ours,
        times_of_published,
    )

    ours, theirs = times_of_ours(tiny, (1, 2)), times_of_published(tiny, (2,))
    assert set(ours) == {f"{stage}/{kind}" for stage in (1, 2) for kind in timed_here()}
    assert set(theirs) == {"2/fp32", "encoding"}
    apart = row_apart(tiny, 2, "fp32", ours, theirs)
    together = times_of(tiny, (2,), rounds=1)[0]
    assert set(apart) == set(together)
    same = ("size", "resolution", "batch", "stage", "precision", "gflop_ours", "gflop_published")
    assert [apart[name] for name in same] == [together[name] for name in same]
    assert apart["time_ratio"] == pytest.approx(apart["time_published_s"] / apart["time_ours_s"])
    assert apart["regularization_cost"] is None


def test_on_a_cpu_without_bf16_products_those_rows_are_left_out_and_it_is_said(
    tiny, monkeypatch, capsys
):
    from attndreambooth.benchmarks import bench, comparison

    assert bool(comparison.left_out()) != ("bf16" in timed_here())
    without_products(monkeypatch)
    assert comparison.left_out().startswith("no bf16 rows: this CPU has no bf16 products")
    assert [r["precision"] for r in comparison.times_of(tiny, (2,), rounds=1)] == ["fp32"]
    assert set(comparison.times_of_ours(tiny, (2,))) == {"2/fp32"}
    assert set(comparison.memory_of_ours(tiny, (2,), 0)) == {"2/fp32"}
    monkeypatch.setattr(bench, "ROUNDS", {})
    bench.main([])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == comparison.left_out() and "bf16" not in "".join(said[1:])


def test_a_lora_is_timed_next_to_the_whole_weights(host):
    from attndreambooth.benchmarks import lora

    rows = lora.rows_of("tiny", rank=2, rounds=1)
    assert [(r["stage"], r["precision"]) for r in rows] == [
        (stage, precision) for stage in (3, 2) for precision in timed_here()
    ]
    for row in rows:
        assert row["ratio_to_whole"] == row["processor_whole_s"] / row["processor_lora_s"]


def test_steps_are_timed_in_turn_and_the_warm_up_is_of_no_account():
    from attndreambooth.benchmarks.measure import time_in_turn

    order = []
    steps = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timed = time_in_turn(steps, rounds=2, device=CPU, warmup=1)
    assert "".join(order) == "ababab"
    assert set(timed) == {"a", "b"}


PEAK = """
import sys
from support import load_pack
load_pack()
import torch
from attndreambooth.benchmarks import measure
if sys.argv[1] == "by looking":
    measure._forget_high_water = lambda: False
with measure.PeakMemory(torch.device("cpu")) as before:
    torch.ones(10).sum()
with measure.PeakMemory(torch.device("cpu")) as peak:
    for _ in range(4):  # each fills 400 MB, and lets go of it
        torch.ones(100_000_000).sum()
print(before.megabytes, peak.megabytes)
"""


@pytest.mark.parametrize("how", ["by the system", "by looking"])
def test_the_peak_of_memory_is_seen_after_it_is_gone(how):
    # in a process of its own: what other tests let go of must not be counted
    command = [sys.executable, "-c", PEAK, how]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    before, peak = map(float, done.stdout.split())
    assert before > 50
    assert 200 < peak - before < 450


def test_rows_of_a_card_compare_ours_with_the_published_step(tiny):
    from attndreambooth.benchmarks.card import rows

    theirs, halved, ours = islice(rows(tiny, CPU, 1, {"fp32": 1e12, "bf16": 1e12}), 3)
    assert (theirs["what"], halved["precision"], ours["what"]) == (
        "published",
        "bf16",
        "ours, default",
    )
    assert ours["ratio_published_fp32"] == pytest.approx(theirs["time_s"] / ours["time_s"])
    assert ours["tflop_per_step"] > 0
    assert ours["share_of_ceiling"] == pytest.approx(ours["tflops"])


def test_a_checkpoint_is_timed_both_ways(host, tmp_path, monkeypatch):
    from attndreambooth.attndb.training import background_write
    from attndreambooth.benchmarks.checkpoints import measured, text

    monkeypatch.setattr(background_write, "LEAST", 0)
    found = measured("tiny", 1, tmp_path)
    assert found["bytes"] > 10_000
    assert all(found[f"{name}_s"] >= 0 for name in ("step", "at_once", "beside", "rest"))
    assert "SD 2.1 from these rates: 10.4 GB" in text(found) and not list(tmp_path.iterdir())


def test_a_mode_of_a_card_can_be_asked_for_alone(tiny, monkeypatch):
    from attndreambooth.benchmarks import card

    layouts, made = [], card.training_of

    def watched(backend, *rest):
        convolution = backend.unet.input_blocks[0][0].weight
        layouts.append(convolution.is_contiguous(memory_format=torch.channels_last))
        return made(backend, *rest)

    monkeypatch.setattr(card, "training_of", watched)
    monkeypatch.setattr(card, "WARMUP", 0)
    ceilings = {"fp32": 1e12, "bf16": 1e12}
    rows = list(card.rows(tiny, CPU, 1, ceilings, (2,), ("channels last",)))
    named = [(row["what"], row["precision"]) for row in rows]
    assert named[2:] == [("ours, channels last", "bf16"), ("ours, not regularized", "bf16")]
    assert layouts == [True, False] and all(row["first_step_s"] > 0 for row in rows)


def test_a_row_that_does_not_fit_says_so_and_the_others_go_on(tiny, monkeypatch):
    from attndreambooth.benchmarks import card

    def too_big(*_):
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(card, "_published", too_big)
    theirs, _, ours = islice(card.rows(tiny, CPU, 1, {"fp32": 1e12, "bf16": 1e12}), 3)
    assert theirs["time_s"] is None
    assert theirs["note"] == "out of memory"
    assert ours["time_s"] > 0
    assert ours["ratio_published_fp32"] is None


def test_a_recipe_trains_all_stages_from_photos(tiny):
    from attndreambooth.benchmarks.card import recipes

    paper = next(recipes(tiny, CPU, quick=True))
    assert paper["recipe"] == "paper"
    assert len(paper["stage_seconds"]) == 3
    assert math.isclose(paper["seconds"], sum(paper["stage_seconds"]))
