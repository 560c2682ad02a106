"""The benchmark of whole trainings: both sides do all that they say, and the parts add up."""

import pytest
import torch

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


@pytest.mark.slow
def test_both_sides_train_and_save(host, tmp_path, monkeypatch):
    import folder_paths

    for name in ("output_directory", "input_directory"):
        monkeypatch.setattr(folder_paths, name, getattr(folder_paths, name))
    known = {k: (list(v[0]), v[1]) for k, v in folder_paths.folder_names_and_paths.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    work, size = recipe.prepared(tmp_path, (96, 80)), sd15_small().at(64, 1)
    mine = recipe.ours(size, "fp32", work, shorter=1000)
    with torch.inference_mode(False):
        theirs = recipe.published(size, work, shorter=1000)
    assert list((work / "models" / "loras").glob("*.safetensors"))
    assert (work / "published.safetensors").stat().st_size > 100e6
    assert {"load", "hash", "encode", "step", "save", "other"} <= set(mine["parts"])
    for side in (mine, theirs):
        assert sum(side["parts"].values()) == pytest.approx(side["processor_s"], rel=0.1)
        assert side["memory_mb"] > 0 and side["parts"]["step"] > 0
    made = recipe.row(size, "fp32", mine, theirs)
    assert 0 < made["outside_steps"] < 1 and made["time_ratio"] > 0
