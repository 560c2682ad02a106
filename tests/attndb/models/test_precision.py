"""Frozen matrices in bf16 change nothing that is computed; rounding by chance keeps the mean."""

from __future__ import annotations

import types

import pytest
import torch

from attndreambooth.attndb.attention import recorder
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.models import image_attention
from attndreambooth.attndb.models import precision as precisions
from attndreambooth.attndb.models.precision import (
    FrozenInBf16,
    bf16_warning,
    computes_in_bf16,
    has_bf16_products,
    round_stochastically,
)
from attndreambooth.attndb.training import training as trainings
from attndreambooth.devkit.tiny_model import RandomBatches, random_batch, tiny_model
from attndreambooth.devkit.training import train_stage, training_of

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))


def stage(number, precision="bf16", **changes):
    optimizer = OptimizerConfig(learning_rate=1e-3)
    return StageConfig(
        stage=number, steps=3, batch_size=2, optimizer=optimizer, precision=precision, **changes
    )


class LeftAlone:
    """In the place of FrozenInBf16."""

    def __init__(self, *modules, device=None):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("number", [1, 2])
def test_frozen_matrices_in_bf16_give_the_same_bits(number, monkeypatch):
    kept = train_stage(tiny_model(), RandomBatches(), stage(number), VECTORS)
    monkeypatch.setattr(trainings, "FrozenInBf16", LeftAlone)
    plain = train_stage(tiny_model(), RandomBatches(), stage(number), VECTORS)
    assert kept.losses == plain.losses and torch.equal(kept.vectors, plain.vectors)
    assert all(torch.equal(kept.delta[name], change) for name, change in plain.delta.items())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_only_frozen_matrices_are_kept_in_bf16_and_only_meanwhile(number):
    backend = tiny_model()
    before = {name: p.detach().clone() for name, p in backend.unet.named_parameters()}
    with training_of(backend, stage(number), VECTORS) as training:
        trained = {id(p) for p in training.trainable}
        text = {p.dtype for p in backend.text_encoders["clip_l"].parameters() if p.ndim >= 2}
        assert text == ({torch.bfloat16, torch.float32} if number == 1 else {torch.float32})
        table = backend.text_encoders["clip_l"].transformer.get_input_embeddings().weight
        assert table.dtype == torch.float32
        for _, parameter in backend.unet.named_parameters():
            frozen_matrix = parameter.ndim >= 2 and id(parameter) not in trained
            assert parameter.dtype == (torch.bfloat16 if frozen_matrix else torch.float32)
    for name, parameter in backend.unet.named_parameters():
        assert torch.equal(parameter, before[name])
    with training_of(backend, stage(number, "fp32"), VECTORS):
        assert {p.dtype for p in backend.unet.parameters()} == {torch.float32}


def test_the_originals_are_back_after_an_error():
    backend = tiny_model()
    before = {name: p.detach().clone() for name, p in backend.unet.named_parameters()}
    with pytest.raises(ZeroDivisionError), training_of(backend, stage(1), VECTORS) as training:
        training.step(0, random_batch(2))
        raise ZeroDivisionError
    assert all(torch.equal(p, before[name]) for name, p in backend.unet.named_parameters())


def test_originals_come_back_to_where_they_were():
    module = torch.nn.Linear(3, 4).requires_grad_(False)
    weight = module.weight.detach().clone()
    with FrozenInBf16(module):
        assert module.weight.dtype == torch.bfloat16 and module.bias.dtype == torch.float32
        assert torch.equal(module.weight, weight.bfloat16())
    assert torch.equal(module.weight, weight)


def test_rounding_by_chance_gives_a_neighbour_and_keeps_the_mean():
    generator = torch.Generator().manual_seed(1)
    value = torch.tensor([1.0 + 0.3 * 2**-7, -0.75 - 0.9 * 2**-8, 3e-6, 0.0])
    drawn = torch.stack([round_stochastically(value, generator).float() for _ in range(4000)])
    for column, exact in zip(drawn.T, value, strict=True):
        neighbours = column.unique()
        assert len(neighbours) == (1 if exact == 0 else 2)
        assert neighbours.min() <= exact <= neighbours.max()
        spread = float(neighbours.max() - neighbours.min())
        assert abs(float(column.double().mean()) - float(exact)) <= 4 * 0.5 * spread / 4000**0.5


def test_what_bf16_can_hold_is_not_moved():
    value = torch.randn(1000).bfloat16().float()
    assert torch.equal(round_stochastically(value, torch.Generator()).float(), value)


def test_one_seed_rounds_the_same_way():
    value = torch.randn(1000)
    first, second = (
        round_stochastically(value, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, round_stochastically(value, torch.Generator().manual_seed(4)))


def test_what_is_no_number_stays_none_whichever_bits_say_so():
    """A CPU's NaN has one bit of its fraction set, a card's all, to which nothing can be added."""
    bits = torch.tensor([0x7FC00000, 0x7FFFFFFF, -1, 0x7F800000, 0x7F7FFFFF], dtype=torch.int32)
    value = bits.view(torch.float32).repeat(64, 1)
    rounded = round_stochastically(value, torch.Generator().manual_seed(3))
    assert rounded[:, :3].isnan().all() and rounded[:, 3].isposinf().all()
    assert (rounded[:, 4] > 3e38).all()


# ---- CPUs without bf16 products


CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def without_products(monkeypatch):
    monkeypatch.setattr(precisions, "has_bf16_products", lambda device: device.type != "cpu")


@pytest.mark.parametrize(
    ("choices", "remedy"),
    [
        ({"precision": "bf16"}, "set precision to auto or fp32"),
        (
            {"precision": "auto", "low_memory": True},
            "set low_memory to auto or off in Training Options",
        ),
        (
            {"precision": "bf16", "low_memory": True},
            "set precision to auto or fp32 and set low_memory to auto or off in Training Options",
        ),
    ],
)
def test_who_asks_for_bf16_where_it_is_slow_is_told_what_it_costs(
    without_products, choices, remedy
):
    said = bf16_warning(stage(3, **choices), CPU)
    assert "no bf16 products: a step takes about ten times as long as in fp32" in said
    assert said.endswith(remedy)
    assert bf16_warning(stage(3, **choices), CARD) == ""


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_who_does_not_ask_for_it_is_told_nothing(without_products, precision):
    assert bf16_warning(stage(3, precision), CPU) == ""
    assert not computes_in_bf16(precision, CPU)


def test_where_the_cpu_has_the_products_nothing_is_said(monkeypatch):
    monkeypatch.setattr(precisions, "has_bf16_products", lambda device: True)
    assert bf16_warning(stage(3, low_memory=True), CPU) == ""


def test_a_gpu_for_which_pytorch_makes_up_for_them_has_none(monkeypatch):
    """So `auto` is fp32 there, and who asks for bf16 is told."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not has_bf16_products(CARD) and not computes_in_bf16("auto", CARD)
    said = bf16_warning(stage(3, "auto", low_memory=True), CARD)
    assert "low_memory computes in bf16, and this GPU (before Ampere or RDNA 3) has no" in said
    assert bf16_warning(stage(3, "auto"), CARD) == ""


@pytest.mark.parametrize(
    ("architecture", "has"),
    [("gfx1030", False), ("gfx906:sramecc+:xnack-", False), ("gfx1100", True), ("gfx942", True)],
)
def test_gpus_of_amd_have_them_by_their_architecture(monkeypatch, architecture, has):
    known = types.SimpleNamespace(gcnArchName=architecture)
    monkeypatch.setattr(torch.version, "hip", "7.1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: known)
    assert has_bf16_products(CARD) == has


@pytest.mark.parametrize(("bf16", "tiles"), [(True, False), (False, True), (False, False)])
def test_a_cpu_has_them_with_avx512_bf16_or_amx(monkeypatch, bf16, tiles):
    monkeypatch.setattr(precisions.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles, raising=False)
    assert has_bf16_products(CPU) == (bf16 or tiles)


@pytest.mark.parametrize("supported", [True, False])
def test_another_cpu_has_what_onednn_says(monkeypatch, supported):
    monkeypatch.setattr(precisions.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert has_bf16_products(CPU) == supported


def without_autocast(monkeypatch, message):
    """PyTorch on a device that it has no autocast for: MPS before 2.5, DirectML."""

    def refused(*_, **__):
        raise RuntimeError(message)

    monkeypatch.setattr(torch, "autocast", refused)
    monkeypatch.setattr(torch, "is_autocast_enabled", refused)


def test_where_a_device_has_no_autocast_fp32_is_what_it_computes_in(monkeypatch):
    without_autocast(monkeypatch, "User specified an unsupported autocast device_type 'mps'")
    gather = torch.eye(4)
    q, k = torch.randn(1, 6, 8), torch.randn(1, 4, 8)
    for maps in (
        recorder.word_maps(q, k, 2, gather),
        image_attention.word_maps(q, k, 2, gather[None]),
    ):
        assert maps.dtype == torch.float32
    with (
        precisions.full_precision(torch.device("mps")),
        precisions.autocast(torch.device("mps"), bf16=False),
    ):
        pass
    with pytest.raises(ValueError, match="on mps: set precision to fp32"):
        precisions.autocast(torch.device("mps"), bf16=True)


def test_full_precision_leaves_autocast_where_there_is_one():
    a, b = torch.randn(4, 4), torch.randn(4, 4)
    with precisions.autocast(torch.device("cpu"), bf16=True):
        assert (a @ b).dtype == torch.bfloat16
        with precisions.full_precision(torch.device("cpu")):
            assert (a @ b).dtype == torch.float32
