"""ViCo: block, mask, regulariser, loss and gradient by independent slow computations."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.slow_vico import slow_block, slow_otsu
from torch import Tensor

from attndreambooth.attndb.config.compared import published
from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.image_attention import ImageAttentionConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.attndb.losses.word_map import word_map_loss
from attndreambooth.attndb.methods.registry import method_of
from attndreambooth.attndb.models.image_attention import ImageBlocks, image_layers
from attndreambooth.attndb.models.image_cross_attention import ImageCrossAttention, otsu_mask
from attndreambooth.devkit.tiny_model import RandomBatches, prompt_of, random_batch, tiny_model
from attndreambooth.devkit.training import (
    context_of,
    denoised,
    parameters_of,
    train_stage,
    training_of,
)

ONE = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
PROMPTS = (prompt_of(), prompt_of(before=(320, 1125)), prompt_of(before=(539,)))
STRONG = ImageAttentionConfig(learning_rate=1e-2, map_weight=0.7)


def settings(**changes: Any) -> Any:
    shared = {"steps": 4, "batch_size": 4, "precision": "fp32", "image_attention": STRONG}
    return published("vico").with_(**{**shared, **changes})


def test_the_mask_is_otsus():
    generator = torch.Generator().manual_seed(4)
    maps = torch.rand(6, 50, generator=generator) ** torch.arange(1, 7)[:, None]
    maps[3] = 0.25  # the same everywhere
    maps[4, :7] += 3.0
    keep = otsu_mask(maps)
    assert keep.tolist() == [slow_otsu(row) for row in maps.tolist()]
    assert bool(keep[3].all()) and keep[4].sum() == 7
    assert torch.equal(otsu_mask(maps * 1e-3 + 7e-4), keep)


def test_the_block_is_that_of_its_formula():
    generator = torch.Generator().manual_seed(1)
    block = ImageCrossAttention(12, 3, generator).double()
    with torch.no_grad():
        for parameter in block.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise)
    x = torch.randn(2, 7, 12, generator=generator, dtype=torch.float64)
    reference = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)
    keep = torch.tensor([[True, False, True, True, False], [False, False, True, False, False]])
    ours = block(x, reference, keep)
    weights = dict(block.state_dict())
    for picture in range(2):
        kept = keep[picture].tolist()
        theirs = slow_block(weights, x[picture], reference[picture], kept, 3)
        torch.testing.assert_close(ours[picture], theirs)
    changed = reference.clone()
    changed[~keep] += 1.0
    assert torch.equal(block(x, changed, keep), ours)


def test_its_first_weights_are_pytorchs_own_and_decided_by_the_seed():
    one, again = (ImageCrossAttention(32, 2, torch.Generator().manual_seed(2)) for _ in range(2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        if "norm" in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight"))))
        else:
            bound = (128 if "net.2" in name else 32) ** -0.5
            assert 0.8 * bound < float(value.abs().max()) <= bound


def test_it_stands_behind_every_second_transformer_of_the_decoder():
    """SD 1.5 has 6 + 1 + 9 of them; the published checkpoint has blocks in 8, 10, 12 and 14."""
    places = ["input_blocks"] * 6 + ["middle_block"] + ["output_blocks"] * 9

    @dataclasses.dataclass
    class Layer:
        name: str
        region: str

    regions = {"input_blocks": "down", "middle_block": "middle", "output_blocks": "up"}
    layers = [Layer(f"{place}.{n}", regions[place]) for n, place in enumerate(places)]
    assert [int(x.name.split(".")[1]) for x in image_layers(layers)] == [8, 10, 12, 14]
    with pytest.raises(ValueError, match="no cross-attention for ViCo"):
        image_layers(layers[:7])


def test_the_regulariser_is_that_of_its_formula():
    generator = torch.Generator().manual_seed(6)
    layers = [torch.rand(3, pixels, 2, generator=generator) for pixels in (16, 64)]
    for maps in layers:
        maps.requires_grad_()
    loss = word_map_loss(layers)
    loss.backward()
    total = 0.0
    for maps in layers:
        for word, end in (one.T.tolist() for one in maps.detach()):
            gaps = [a / max(word) - b / max(end) for a, b in zip(word, end, strict=True)]
            total += sum(gap**2 for gap in gaps) / maps[..., 0].numel()
    assert loss.item() == pytest.approx(total, rel=1e-5)
    assert all(bool((maps.grad[..., 1] == 0).all()) for maps in layers)  # the end's is held
    assert all(bool((maps.grad[..., 0] != 0).any()) for maps in layers)


class TwoStreams:
    """Picture and reference walk through the U-Net's own parts one beside the other, as in the
    published program; attention to the text is an explicit softmax."""

    def __init__(self, unet: Any, blocks: list[dict[str, Tensor]], places: list[tuple]) -> None:
        self.unet, self.blocks, self.places = unet, list(blocks), places
        self.count, self.loss = 0, torch.zeros(())

    def __call__(self, x: Tensor, xr: Tensor, t: Tensor, context: Tensor) -> Tensor:
        from comfy.ldm.modules.diffusionmodules.util import timestep_embedding

        unet = self.unet
        emb = unet.time_embed(timestep_embedding(t, unet.model_channels))
        kept = []
        for module in unet.input_blocks:
            x, xr = self.walk(module, x, xr, emb, context, False)
            kept.append((x, xr))
        x, xr = self.walk(unet.middle_block, x, xr, emb, context, False)
        for module in unet.output_blocks:
            other, other_r = kept.pop()
            x, xr = torch.cat([x, other], dim=1), torch.cat([xr, other_r], dim=1)
            x, xr = self.walk(module, x, xr, emb, context, True)
        assert not self.blocks, "every block had its place"
        return unet.out(x)

    def walk(self, module: Any, x: Tensor, xr: Tensor, emb: Tensor, context: Tensor, up: bool):
        from comfy.ldm.modules.attention import SpatialTransformer
        from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

        for layer in module:
            if isinstance(layer, SpatialTransformer):
                looks = up and self.count % 2 == 0
                self.count += 1
                x, xr = self.transformer(layer, x, xr, context, looks)
            elif isinstance(layer, ResBlock):
                x, xr = layer(x, emb), layer(xr, emb)
            else:
                x, xr = layer(x), layer(xr)
        return x, xr

    def transformer(self, layer: Any, x: Tensor, xr: Tensor, context: Tensor, looks: bool):
        height, width = x.shape[2:]
        rows = [layer.norm(y).flatten(2).transpose(1, 2) for y in (x, xr)]
        h, hr = (layer.proj_in(row) for row in rows)
        [block] = layer.transformer_blocks
        h, _ = self.block(block, h, context)
        hr, attention = self.block(block, hr, context)
        if looks:
            h = self.looked(h, hr, attention, block.attn2.heads)
        back = [layer.proj_out(y).transpose(1, 2).unflatten(2, (height, width)) for y in (h, hr)]
        return x + back[0], xr + back[1]

    def block(self, block: Any, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        x = x + block.attn1(block.norm1(x))
        attention = block.attn2
        q, k, v = (
            y.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for y in (
                attention.to_q(block.norm2(x)),
                attention.to_k(context),
                attention.to_v(context),
            )
        )
        shares = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + attention.to_out((shares @ v).transpose(1, 2).flatten(2))
        return x + block.ff(block.norm3(x)), shares.mean(dim=1)

    def looked(self, h: Tensor, hr: Tensor, attention: Tensor, heads: int) -> Tensor:
        weights, pictures = self.blocks.pop(0), []
        for sample, (word, end) in enumerate(self.places):
            a, b = attention[sample, :, word], attention[sample, :, end].detach()
            gap = a / a.max() - b / b.max()
            self.loss = self.loss + gap.square().sum() / attention[:, :, 0].numel()
            keep = slow_otsu(a.tolist())
            pictures.append(slow_block(weights, h[sample], hr[sample], keep, heads))
        return torch.stack(pictures)


def test_loss_and_gradient_are_those_of_two_streams_side_by_side():
    """The public code's block, mask and regulariser were run beside ours once, on the same inputs
    (docs/methods.md)."""
    batch = random_batch(4, seed=2, prompts=PROMPTS, masked=True)
    with training_of(tiny_model(levels=2), settings(), ONE) as training:
        ours = parameters_of(training)
        weights = {n: v.detach().clone().requires_grad_() for n, v in ours.items()}
        totals = LossTotals.of(batch)
        learner: Any = training.learner
        shares = learner.losses(batch, totals)
        loss: Any = sum(shares.values())
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in ours.items()}
        names = learner._blocks.names
        parted = [part() for part in training.learner.parts(batch, totals, 1)]
        for name, share in shares.items():
            torch.testing.assert_close(sum(part[name] for part in parted), share)

    model = tiny_model(levels=2)
    vectors = weights.pop("clip_l")
    context = torch.cat([context_of(model, prompt, vectors) for prompt in batch.prompts])
    places = [(p.tokens.index(None), p.tokens.index(49407)) for p in batch.prompts]
    blocks = []
    for number in range(len(names)):
        front = f"blocks.{number}."
        blocks.append({n.removeprefix(front): w for n, w in weights.items() if front in n})
    streams = TwoStreams(model.unet, blocks, places)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abar = (1 - betas).cumprod(0)[batch.timesteps].float()[:, None, None, None]
    z_t = abar.sqrt() * batch.latents + (1 - abar).sqrt() * batch.noise
    out = streams(z_t, batch.reference, batch.timesteps, context)
    weight = batch.mask.expand_as(out)
    denoising = ((out - batch.noise) ** 2 * weight).sum() / weight.sum()
    torch.testing.assert_close(shares["denoising"], denoising, rtol=1e-5, atol=0)
    torch.testing.assert_close(shares["attention_map"], 0.7 * streams.loss, rtol=1e-4, atol=0)
    (denoising + 0.7 * streams.loss).backward()
    for name, gradient in gradients.items():
        theirs = vectors.grad if name == "clip_l" else weights[name].grad
        torch.testing.assert_close(gradient, theirs, rtol=1e-4, atol=1e-6)
        assert bool((gradient != 0).any()), name


@pytest.mark.parametrize("level", ["light", "full"])
def test_computing_activations_again_changes_nothing(level):
    results = [
        train_stage(
            tiny_model(levels=2),
            RandomBatches(),
            settings(gradient_checkpointing=which, steps=2),
            ONE,
        )
        for which in ("off", level)
    ]
    assert results[0].losses == results[1].losses
    assert torch.equal(results[0].vectors, results[1].vectors)
    for name, value in results[0].modules.items():
        assert torch.equal(value, results[1].modules[name]), name


def test_it_learns_word_and_blocks_at_rates_of_their_own_and_leaves_the_u_net():
    model, plain = tiny_model(levels=2), tiny_model(levels=2)
    config = published("vico").with_(steps=3, precision="fp32")
    with training_of(model, config, ONE) as training:
        rates = [group["lr"] for group in training.optimizer.param_groups]
        assert rates == [5e-3, 1e-5]
        before = training.learner.added()
        for step in range(3):
            training.step(step, random_batch(4, seed=step))
        assert not torch.equal(training.embeddings["clip_l"], ONE)
        # between steps and after them the model is the frozen one
        batch = random_batch(2)
        ours, theirs = (
            denoised(m, batch.latents, batch.timesteps, context_of(m, prompt_of(), ONE))
            for m in (model, plain)
        )
        assert torch.equal(ours, theirs)
        result = training.result()
    assert not result.delta
    for name, value in result.modules.items():
        gap = (value - before[name]).abs().max()
        assert 0 < gap < 1e-4, name
    assert not any(m._forward_hooks for m in model.unet.modules())
    for name, weight in plain.unet.state_dict().items():
        assert torch.equal(model.unet.state_dict()[name], weight), name


def test_the_blocks_come_back_from_their_tensors_or_are_refused():
    result = train_stage(tiny_model(levels=2), RandomBatches(), settings(), ONE)
    model = tiny_model(levels=2)
    named = {n.removeprefix("vico."): v for n, v in result.modules.items()}
    assert {n.split(".attn")[0] for n in named if ".attn1." in n} == {
        "output_blocks.1.1.transformer_blocks.0",
        "output_blocks.3.1.transformer_blocks.0",
    }
    blocks = ImageBlocks.from_tensors(named, model.unet, model.text_attention())
    for name, value in blocks.tensors().items():
        assert torch.equal(value, named[name])
    first = next(iter(named))
    for broken in ({**named, first: torch.zeros(3, 3)}, {**named, "more": torch.zeros(1)}):
        with pytest.raises(ValueError, match="its image cross-attention does not fit"):
            ImageBlocks.from_tensors(broken, model.unet, model.text_attention())
    with pytest.raises(ValueError, match="does not fit"):
        less = {n: v for n, v in named.items() if n != first}
        ImageBlocks.from_tensors(less, model.unet, model.text_attention())


def test_what_it_cannot_do_is_refused_by_name():
    with pytest.raises(ValueError, match="vectors = 2: ViCo's word is one token"):
        published("vico").with_(vectors=2)
    with pytest.raises(ValueError, match="aspect_buckets = True: a photo and its reference"):
        published("vico").with_(data=DataConfig(aspect_buckets=True))
    with pytest.raises(ValueError, match="optimizer = 'Prodigy': it takes one rate for all"):
        published("vico").with_(optimizer=OptimizerConfig(learning_rate=1.0, name="Prodigy"))
    with pytest.raises(ValueError, match=r"image_learning_rate = 0\.0: must be above 0"):
        ImageAttentionConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match=r"reads 2 text encoders \(clip_l, clip_g\), and ViCo"):
        method_of(settings()).attach(tiny_model(levels=2), {"clip_l": ONE, "clip_g": ONE})
