"""After a stage nothing of it is alive, without Python's search for cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from support.stages import dataset
from torch import nn


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Inside, only what nothing refers to any more is freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def modules() -> dict[int, nn.Module]:
    """All modules that are alive in this process."""
    return {id(one): one for one in gc.get_objects() if issubclass(type(one), nn.Module)}


def new_modules(before: set[int]) -> list[str]:
    return sorted(type(one).__name__ for key, one in modules().items() if key not in before)


@pytest.fixture(scope="module")
def made_once(sd15, run, train, tmp_path_factory) -> None:
    """What the first training of a process makes, and what stays, is there."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("once")))
    with torch.inference_mode():
        train(3, sd15, preview=preview(run), seed=1)
    folder_paths.set_output_directory(before)


def preview(run: Any) -> Any:
    return run("AttnDBTrainingPreview", every=1, steps=1, width=64, height=64, attention_maps=True)[
        0
    ]


@pytest.mark.parametrize(
    ("number", "choices", "looks"),
    [
        (1, {"gradient_checkpointing": "off"}, False),
        (1, {"gradient_checkpointing": "full"}, False),
        (2, {"gradient_checkpointing": "light"}, True),
        (2, {"gradient_checkpointing": "off", "lora_rank": 2}, False),
        (3, {"gradient_checkpointing": "off"}, True),
        (3, {"gradient_checkpointing": "light"}, False),
        (3, {"gradient_checkpointing": "full"}, False),
        (3, {"gradient_checkpointing": "full", "lora_rank": 2}, False),
        (3, {"low_memory": True}, True),
    ],
)
@pytest.mark.usefixtures("every_trace", "made_once")
def test_no_module_of_a_finished_stage_is_alive(sd15, run, train, number, choices, looks):
    wanted = {
        "dataset": dataset(run),
        "options": run("AttnDBTrainingOptions", **choices)[0],
        "preview": preview(run) if looks else None,
    }
    with no_search_for_cycles():
        before = set(modules())
        made = train(number, sd15, **wanted, seed=2)
        assert new_modules(before) == []
        assert made[0].record["stages"][-1]["losses"]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.usefixtures("made_once")
def test_no_module_of_a_stopped_stage_is_alive(sd15, run, train, number, monkeypatch):
    from attndreambooth.nodes.host.ui import progress

    def broken(self: Any, *_: Any) -> None:
        raise ArithmeticError("in the middle")

    monkeypatch.setattr(progress.TrainingProgress, "__call__", broken)
    data = dataset(run)
    with no_search_for_cycles():
        before = set(modules())
        with pytest.raises(ArithmeticError) as caught:
            train(number, sd15, dataset=data, seed=4)
        del caught
        assert new_modules(before) == []
