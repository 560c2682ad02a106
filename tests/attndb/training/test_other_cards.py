"""Apple's GPUs and Intel's cards, of which several have no fp64: what a step and an update ask for.

The values of a pretended one are the CPU's; no step has run on a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from support.operations import Operations
from support.prior import VECTORS, stage

from attndreambooth.attndb.config.compared import COMPARED, published
from attndreambooth.attndb.config.orthogonal import OrthogonalConfig
from attndreambooth.attndb.methods.orthogonal import OrthogonalParameter
from attndreambooth.attndb.training.adamw_in_backward import AdamWInBackward
from attndreambooth.attndb.training.ranks import Ranks
from attndreambooth.attndb.training.step_loss import PendingLoss
from attndreambooth.devkit.kinds_of_card import KINDS, MPS
from attndreambooth.devkit.pretend_card import OnCard, pretend_card
from attndreambooth.devkit.tiny_model import random_batch, tiny_model
from attndreambooth.devkit.training import training_of

OTHERS = [name for name in KINDS if name != "cuda"]
pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() or not MPS.can_be_pretended, reason="a real card, or not on Linux"
)


@contextmanager
def asked_of_the_card() -> Iterator[list[str]]:
    """The names of operations on what is on a pretended card."""
    found: list[str] = []

    def tell(func: Any, args: Any, _: Any) -> None:
        if any(isinstance(value, OnCard) for value in args):
            found.append(func._schema.name.removeprefix("aten::"))

    with Operations(tell):
        yield found


@pytest.mark.parametrize("name", OTHERS)
def test_an_update_in_the_backward_pass_reads_no_counter_from_the_card(host, name, monkeypatch):
    monkeypatch.setattr("attndreambooth.attndb.training.adamw_in_backward.PIECE", 64)
    constants = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
    there: Any
    with pretend_card(kind=KINDS[name]):
        there = torch.nn.Parameter(torch.ones(16, 8, dtype=torch.bfloat16).to(name))
        optimizer = AdamWInBackward([there], seed=0, **constants)
        with asked_of_the_card() as asked:
            for _ in range(2):
                optimizer._update(there, torch.ones(16, 8).to(name))
    assert "addcdiv_" in asked, "it is not the fused kernel"
    assert "_local_scalar_dense" not in asked
    moved = 1.0 - float(there.held.detach().float().mean())
    assert moved == pytest.approx(2 * 1e-2 * (1 + 1e-2), rel=0.05)


@pytest.mark.parametrize("name", OTHERS)
def test_losses_and_gradients_of_several_processes_are_summed_in_main_memory(
    host, name, monkeypatch
):
    summed = []

    def twice(tensor: torch.Tensor) -> None:
        assert not isinstance(tensor, OnCard), "gloo takes nothing else, and NCCL is CUDA's"
        summed.append(tensor.dtype)
        tensor.mul_(2)

    monkeypatch.setattr(dist, "all_reduce", twice)
    training = training_of(tiny_model(), stage(3), VECTORS)
    ranks = Ranks()
    ranks.size, training.ranks, training.trainable = 2, ranks, []
    monkeypatch.setattr(ranks, "together", lambda work: work())
    with pretend_card(kind=KINDS[name]):
        parts = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).to(name)
        pending = PendingLoss(0, ("denoising", "attention_map"), parts)
        monkeypatch.setattr(training, "_backward", lambda *_: pending)
        loss = training._backward_of_all(0, None, None).read()  # type: ignore[arg-type]
        weight = torch.nn.Parameter(torch.ones(2).to(name))
        weight.grad = torch.ones(2).to(name)
        ranks.sum_gradients([weight])
    assert dict(loss.shares) == {"denoising": 8.0, "attention_map": 12.0}
    assert summed == [torch.float64, torch.float32] and weight.grad.tolist() == [2.0, 2.0]


def test_a_rotation_is_solved_where_the_solution_s_gradient_is_known(host):
    with pretend_card(kind=MPS), torch.no_grad():
        turn = OrthogonalParameter(torch.ones(6, 8).to("mps"), OrthogonalConfig(blocks=2))
        with asked_of_the_card() as asked:
            rotation = turn.rotation()
    assert rotation.device == MPS.device and "eye" not in asked
    assert not [name for name in asked if "solve" in name] and "_to_copy" in asked


STEPS = {
    "1": lambda: stage(1),
    "2": lambda: stage(2, gradient_checkpointing="full"),
    "3": lambda: stage(3, min_snr_gamma=5.0, micro_batch=2, ema_decay=0.9),
    "in backward": lambda: stage(3, low_memory=True, precision="auto"),
    "lora": lambda: stage(2, lora_rank=2, precision="bf16"),
    **{name: lambda name=name: published(name).with_(precision="fp32") for name in COMPARED},
}
THE_CPUS = {"_scaled_dot_product_flash_attention_for_cpu"}
"""And its backward pass: every device has its own attention."""


@pytest.mark.parametrize("name", STEPS)
def test_pytorch_lists_every_operation_of_a_step_for_apple_s_gpus(host, name):
    missing = set()

    def tell(func: Any, *_: Any) -> None:
        try:
            MPS.check(func)
        except NotImplementedError:
            missing.add(func._schema.name.removeprefix("aten::").removesuffix("_backward"))

    config = STEPS[name]()
    with training_of(tiny_model(), config, VECTORS) as training, Operations(tell):
        training.step(0, random_batch(config.batch_size, masked=True))
    assert THE_CPUS <= missing, "it sees what is the CPU's alone"
    # what a rotation is solved with is computed on the CPU
    assert missing == THE_CPUS | ({"linalg_lu_solve"} if name == "oft" else set())
