"""A training's state as tensors and plain data, and back."""

from __future__ import annotations

import torch

from attndreambooth.attndb.methods.method import ParameterGroup
from attndreambooth.attndb.training.checkpoint import restore, state_of


def stepped():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], fused=False)  # as on every device but CUDA and the CPU
    weight.sum().backward()
    optimizer.step()
    return [ParameterGroup("words", {"weight": weight})], optimizer


def test_a_step_counter_does_not_hold_the_file_that_it_came_from():
    groups, optimizer = stepped()
    tensors, plain = state_of(groups, optimizer, None, None)
    given = {name: value.clone() for name, value in tensors.items()}  # pages of a mapped file
    restore(given, plain, groups, optimizer, None, None)
    [state] = optimizer.state.values()
    assert state["step"] == given["optimizer.0.step"] == 1
    assert state["step"].data_ptr() != given["optimizer.0.step"].data_ptr()
