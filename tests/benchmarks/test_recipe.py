"""The benchmark of whole trainings: both sides do all that they say, and the parts add up."""

import pytest
import torch

from attndreambooth.attndb.config.data import POOL
from attndreambooth.benchmarks import recipe
from attndreambooth.benchmarks.sizes import sd15_small
from attndreambooth.benchmarks.stopwatch import Stopwatch


def test_a_stopwatch_gives_each_second_to_the_innermost_part():
    ticks = iter([0.0, 1.0, 3.0, 3.5, 6.0, 10.0])
    watch = Stopwatch(lambda: next(ticks))
    with watch.part("whole"):  # 0 to 10
        with watch.part("step"):  # 1 to 3
            pass
        with watch.part("step"):  # 3.5 to 6
            pass
    assert watch.seconds == {"step": 4.5, "whole": 5.5} and watch.calls["step"] == 2


def test_it_watches_calls_and_puts_them_back():
    class Owner:
        def call(self, number):
            return number + 1

    before, watch = Owner.call, Stopwatch()
    with watch.watching({"part": [(Owner, "call")]}):
        assert Owner().call(2) == 3
    assert Owner.call is before and watch.calls == {"part": 1}


def test_the_stages_are_a_share_of_the_papers():
    assert recipe.steps_of(20) == (3, 5, 25) and recipe.steps_of(1000) == (1, 1, 1)


@pytest.mark.parametrize(("shorter", "crops"), [(20, 2), (60, 1)])
def test_the_pool_is_to_the_samples_what_it_is_in_the_papers_recipe(shorter, crops):
    """5 photos: 640 crops of 5,280 samples there, 10 of 66 and 5 of 22 here. The
    benchmark's batch is a quarter of the paper's, so that as many steps have fewer samples."""
    size = sd15_small()
    assert recipe.pool_of(size, shorter) == crops
    assert recipe.pool_of(size.at(512, 8), 1) == POOL
    crops_of_all, samples = recipe.PHOTOS * crops, size.batch * sum(recipe.steps_of(shorter))
    assert crops_of_all / samples < 0.25


def test_what_lies_between_the_steps_is_a_share_of_the_clock():
    wall = {"step": 95.0, "batch": 1.0, "told": 3.0, "checkpoint": 1.0, "encode": 50.0, "hash": 9.0}
    assert recipe.between_steps(wall) == pytest.approx(0.05)
    assert recipe.between_steps({"step": 2.0}) == 0.0


@pytest.mark.slow
def test_both_sides_train_and_save(own_folders, tmp_path):
    work, size = recipe.prepared(tmp_path, (96, 80)), sd15_small().at(64, 1)
    mine = recipe.ours(size, "fp32", work, shorter=1000)
    with torch.inference_mode(False):
        theirs = recipe.published(size, work, shorter=1000)
    assert list((work / "models" / "loras").glob("*.safetensors"))
    assert (work / "published.safetensors").stat().st_size > 100e6
    parts = {"load", "hash", "encode", "batch", "step", "told", "save", "other"}
    assert parts <= set(mine["parts"])
    for side in (mine, theirs):
        assert sum(side["parts"].values()) == pytest.approx(side["processor_s"], rel=0.1)
        assert side["memory_mb"] > 0 and side["parts"]["step"] > 0
    made = recipe.row(size, "fp32", mine, theirs)
    assert 0 < made["outside_steps"] < 1 and made["time_ratio"] > 0
    assert 0 < made["between_steps"] < 1
