"""A LoRA computes W x + U (D x): what (W + U D) x gives, without ever forming the sum."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

import pytest
import torch
from support.gradients import at_step
from support.operations import Operations
from support.resumed import same, whole_and_resumed

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.methods import low_rank
from attndreambooth.attndb.methods.low_rank import LowRankLayer, LowRankParameter
from attndreambooth.attndb.methods.trained_weights import LowRankWeights
from attndreambooth.devkit.tiny_model import RandomBatches, random_batch, tiny_model
from attndreambooth.devkit.training import parameters_of, train_stage, training_of

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
LAYERS = {
    "linear": (lambda: torch.nn.Linear(7, 11), (3, 5, 7)),
    "linear without a bias": (lambda: torch.nn.Linear(7, 11, bias=False), (13, 7)),
    "3 x 3": (lambda: torch.nn.Conv2d(5, 6, 3, padding=1), (2, 5, 8, 9)),
    "downsampling": (lambda: torch.nn.Conv2d(5, 6, 3, stride=2, padding=1), (2, 5, 8, 9)),
    "1 x 1": (lambda: torch.nn.Conv2d(5, 6, 1), (2, 5, 8, 9)),
    "reflected edges": (
        lambda: torch.nn.Conv2d(5, 6, 3, padding=1, padding_mode="reflect"),
        (2, 5, 8, 9),
    ),
    "in time": (lambda: torch.nn.Conv1d(5, 6, 3, dilation=2), (2, 5, 9)),
    "in groups": (lambda: torch.nn.Conv2d(6, 4, 3, groups=2), (2, 6, 8, 9)),
}


def stage(number=3, **changes):
    return StageConfig(
        stage=number,
        **{
            "steps": 3,
            "batch_size": 4,
            "optimizer": OptimizerConfig(learning_rate=1e-3),
            "regularization": Regularization(mean_weight=200.0, variance_weight=2000.0),
            "precision": "fp32",
            "lora_rank": 3,
            **changes,
        },
    )


def changed(layer, rank=3):
    """The layer with a change that is not zero, and the change."""
    generator = torch.Generator().manual_seed(1)
    change = LowRankParameter(layer.weight, rank, generator).to(layer.weight.dtype)
    torch.nn.init.normal_(change.up, generator=generator)
    return LowRankLayer(layer, "weight", change), change


def formed(layer, change, x):
    """The slow way: the layer with W + U D for a weight."""
    weight = layer.weight + (change.up @ change.down).reshape(layer.weight.shape)
    return torch.func.functional_call(layer, {"weight": weight}, (x,))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_computes_what_it_would_with_the_changed_weight(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = make().double().requires_grad_(False)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    place, change = changed(layer)
    wanted = [x, change.up, change.down]
    found = layer(x)
    gradients = torch.autograd.grad(found.square().sum(), wanted)
    place.remove()
    expected = formed(layer, change, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for mine, slow in zip(
        gradients, torch.autograd.grad(expected.square().sum(), wanted), strict=True
    ):
        torch.testing.assert_close(mine, slow, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["linear", "3 x 3"])
def test_nothing_as_large_as_the_weight_is_made(kind):
    make, _ = LAYERS[kind]
    layer = make().requires_grad_(False)
    shape = (2, 13, 7) if kind == "linear" else (2, 5, 8, 9)
    changed(layer)
    size, made = layer.weight.numel(), []

    def tell(func, args, tensors):
        weight = layer.weight.untyped_storage().data_ptr()
        made.extend(
            func
            for one in tensors
            if one.numel() == size and one.untyped_storage().data_ptr() != weight
        )

    with Operations(tell):
        layer(torch.randn(shape, requires_grad=True)).square().sum().backward()
    assert not made and layer.weight.grad is None


@contextmanager
def computed():
    """What is computed inside: each operation with its tensors."""
    found = []

    def tell(func, args, made):
        found.append((func.overloadpacket, [a for a in args if isinstance(a, torch.Tensor)]))

    with Operations(tell):
        yield found


@pytest.mark.parametrize("autocast", [False, True])
def test_no_product_reads_rows_of_the_rank(autocast):
    """A matrix of (O, R) in rows of R took 2.5 times as long as one in rows of O, and the gradient
    of D x is a product with it."""
    layer, outputs, rank = torch.nn.Linear(7, 11).requires_grad_(False), 11, 3
    changed(layer, rank)
    with computed() as calls, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        layer(torch.randn(2, 13, 7, requires_grad=True)).float().square().sum().backward()
    read = [of[-1] for op, of in calls if op is torch.ops.aten.mm]
    wide = [matrix for matrix in read if tuple(matrix.shape) == (outputs, rank)]
    assert len(wide) == 1 and wide[0].stride() == (1, outputs)


def test_a_convolution_adds_into_its_output():
    """A sum of its own is one more tensor of the output's size, and one more pass over it."""
    layer = torch.nn.Conv2d(5, 6, 3, padding=1).requires_grad_(False)
    changed(layer)
    with computed() as calls:
        layer(torch.randn(2, 5, 8, 9))
    sums = [op for op, _ in calls if op in (torch.ops.aten.add, torch.ops.aten.add_)]
    assert sums == [torch.ops.aten.add_]


@pytest.mark.parametrize("kind", ["linear", "3 x 3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_a_layer_gives_what_autocast_gives(kind, dtype):
    make, shape = LAYERS[kind]
    layer, x = make().requires_grad_(False), torch.randn(shape)
    _, change = changed(layer)
    exact = layer(x).detach()
    with torch.autocast("cpu", dtype=dtype):
        rough = layer(x)
        rough.float().sum().backward()
    assert rough.dtype == dtype and change.up.grad.dtype == torch.float32
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.1)


def test_a_layer_without_a_weight_of_products_is_changed_as_well():
    table = torch.nn.Embedding(9, 4).requires_grad_(False)
    before = table.weight.detach().clone()
    place, change = changed(table)
    rows = torch.tensor([1, 8])
    torch.testing.assert_close(table(rows), before[rows] + (change.up @ change.down)[rows])
    place.remove()
    assert type(table) is torch.nn.Embedding and torch.equal(table.weight, before)
    place.remove()  # once more is no harm


def test_every_factors_gradient_is_that_of_the_formed_weights():
    """The whole U-Net in fp64, next to a functional call with W + U D everywhere."""
    unet = tiny_model().unet.double().requires_grad_(False)
    named = dict(unet.named_parameters())
    weights = LowRankWeights(unet, named, rank=3, seed=0)
    unet.double()  # the factors, too
    generator = torch.Generator().manual_seed(2)
    for name, factor in weights.parameters.items():
        factor.requires_grad_(True)
        if name.endswith(":up"):
            torch.nn.init.normal_(factor, std=0.1, generator=generator)
    z, context = torch.randn(2, 4, 8, 8).double(), torch.randn(2, 77, 32).double()
    t = torch.tensor([5, 700])
    found = unet(z, t, context=context)
    factors = list(weights.parameters.values())
    mine = torch.autograd.grad(found.square().sum(), factors)
    weights.release()
    changed_ = {
        name: named[name]
        + (weights.parameters[f"{name}:up"] @ weights.parameters[f"{name}:down"]).reshape(
            named[name].shape
        )
        for name in weights.delta()
    }
    assert len(changed_) == sum(p.ndim >= 2 for p in named.values())
    expected = torch.func.functional_call(unet, changed_, (z, t), {"context": context})
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    slow = torch.autograd.grad(expected.square().sum(), factors)
    scale = max(float(gradient.abs().max()) for gradient in slow)
    for name, one, other in zip(weights.parameters, mine, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11 * scale, msg=name)


@pytest.mark.parametrize("number", [2, 3])
def test_a_training_ends_where_one_of_formed_weights_does(number, monkeypatch):
    ours = train_stage(tiny_model(), RandomBatches(), stage(number), VECTORS)
    monkeypatch.setattr(low_rank, "front_of", lambda layer: None)
    slow = train_stage(tiny_model(), RandomBatches(), stage(number), VECTORS)
    for one, other in zip(ours.losses, slow.losses, strict=True):
        assert one.total == pytest.approx(other.total, rel=1e-4)
    assert ours.delta.keys() == slow.delta.keys()
    mine, theirs = (
        torch.cat([dense(r.delta[name]).flatten() for name in slow.delta]) for r in (ours, slow)
    )
    # AdamW divides by the gradient's own size, so rounding can turn the smallest ones round
    assert torch.cosine_similarity(mine, theirs, dim=0) > 0.999
    assert mine.norm() > 0


@pytest.mark.parametrize("micro", [1, 3])
def test_in_parts_and_with_prior_samples_the_gradient_is_that_of_the_whole_batch(micro):
    batch = dataclasses.replace(random_batch(4, masked=True), prior=random_batch(4, seed=9))

    def gradients(micro_batch):
        config = stage(micro_batch=micro_batch)
        with training_of(tiny_model(), config, VECTORS) as training:
            for parameter in training.trainable:
                torch.nn.init.normal_(
                    parameter, std=0.1, generator=torch.Generator().manual_seed(3)
                )
            at_step(training, lambda: None)
            kept = {}
            for name, parameter in parameters_of(training).items():
                parameter.register_post_accumulate_grad_hook(
                    lambda p, name=name: kept.update({name: p.grad.clone()})
                )
            training.step(0, batch)
            return kept

    whole, parts = gradients(0), gradients(micro)
    assert whole.keys() == parts.keys()
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5 * scale)


def test_queries_and_keys_that_are_looked_at_have_the_change_in_them():
    model = tiny_model()
    [layer, *_] = model.text_attention()
    weights = {n: p.detach().clone() for n, p in model.unet.named_parameters()}
    with training_of(model, stage(2), VECTORS) as training:
        for parameter in training.trainable:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(3))
        delta = training.learner.learned().delta
        seen, inputs = [], []
        handles = [
            layer.module.to_q.register_forward_pre_hook(lambda _m, x: inputs.append(x[0])),
            layer.module.to_k.register_forward_pre_hook(lambda _m, x: inputs.append(x[0])),
            layer.observe(lambda q, k: seen.append((q, k))),
        ]
        training.step(0, random_batch(2))
        for handle in handles:
            handle.remove()
    for found, x, part in zip(seen[0], inputs, ("to_q", "to_k"), strict=False):
        name = f"{layer.name}.{part}.weight"
        plain = torch.nn.functional.linear(x, weights[name])
        expected = torch.nn.functional.linear(x, weights[name] + dense(delta[name]))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(found, plain, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("changes", [{}, {"low_memory": True, "precision": "auto"}])
def test_afterwards_the_model_is_what_it_was(changes):
    model = tiny_model()

    def facts():
        modules = [(n, type(m), sorted(m._modules)) for n, m in model.unet.named_modules()]
        names = [(n, id(p), p.dtype, p.requires_grad) for n, p in model.unet.named_parameters()]
        return modules, names, [p.detach().clone() for p in model.unet.parameters()]

    before = facts()
    config = stage(gradient_checkpointing="off", **changes)
    with pytest.raises(ZeroDivisionError), training_of(model, config, VECTORS) as training:
        training.step(0, random_batch(4))
        assert facts()[0] != before[0]
        raise ZeroDivisionError
    after = facts()
    assert after[:2] == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(before[2], after[2], strict=True))


def test_in_bf16_the_frozen_matrices_are_kept_in_bf16():
    with training_of(tiny_model(), stage(precision="bf16"), VECTORS) as training:
        thin = {id(p) for p in training.trainable}
        kept = {p.dtype for p in training.model.unet.parameters() if p.ndim >= 2}
        trained = {p.dtype for p in training.model.unet.parameters() if id(p) in thin}
    assert kept == {torch.bfloat16, torch.float32} and trained == {torch.float32}


@pytest.mark.parametrize("changes", [{}, {"low_memory": True, "precision": "auto"}])
def test_resumed_it_ends_in_the_same_bytes(tmp_path, changes):
    def train(callback, run):
        config = stage(steps=5, **changes)
        return train_stage(tiny_model(), RandomBatches(), config, VECTORS, callback, run)

    assert same(*whole_and_resumed(tmp_path, train))
