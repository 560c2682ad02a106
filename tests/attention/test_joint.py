"""Joint attention of SD 3 and Flux: captured maps equal attention computed from the projections.

The slow reference takes the outputs of the blocks' linear layers by forward hooks, normalises them,
turns them by their positions and takes the softmax over text and picture, step by step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from attndreambooth.attndb.attention.capture import Capture
from attndreambooth.attndb.attention.column_statistics import column_statistics
from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.attndb.attention.word_maps import MapSelection, word_maps_of
from attndreambooth.devkit.joint_models import joint_conditioning, small_joint_model

TOKENS, HEIGHT, WIDTH = 9, 6, 10  # latent pixels; a token is 2 x 2 of them
PICTURE = (HEIGHT // 2) * (WIDTH // 2)
WORDS = (Word(label="cat", columns=(2, 3)), Word(label="hat", columns=(7,)))


def draw(model: Any, positive: Any, negative: Any, steps: int = 2, batch: int = 1) -> Tensor:
    """Samples by the stock KSampler; CFG 2, so that both conditionings are computed."""
    import nodes

    latent = {"samples": torch.zeros(batch, 16, HEIGHT, WIDTH)}
    arguments = (model, 3, steps, 2.0, "euler", "simple", positive, negative, latent, 1.0)
    return nodes.KSampler().sample(*arguments)[0]["samples"]


def rms(x: Tensor, weight: Tensor) -> Tensor:
    """Root mean square normalisation over the last axis."""
    x = x.double()
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * weight.double()


def turned(x_BHND: Tensor, text: int) -> Tensor:
    """Rotary positions of Flux: text at 0, a picture's token at (row, column), a pair of numbers at
    a time (Su et al. 2021, equation 34)."""
    out = x_BHND.clone()
    for place in range(text, x_BHND.shape[2]):
        row, column = divmod(place - text, WIDTH // 2)
        first = 8  # the first axis (8 numbers) is 0 everywhere
        for position, length in ((row, 12), (column, 12)):
            for pair in range(length // 2):
                angle = torch.tensor(position * 10000.0 ** (-2 * pair / length)).double()
                i = first + 2 * pair
                a, b = x_BHND[:, :, place, i], x_BHND[:, :, place, i + 1]
                out[:, :, place, i] = a * angle.cos() - b * angle.sin()
                out[:, :, place, i + 1] = a * angle.sin() + b * angle.cos()
            first += length
    return out


class Reference:
    """Attention of every joint block of a denoiser, mean over heads, (B, P, T), call by call."""

    def __init__(self, denoiser: Any) -> None:
        self.maps: dict[str, list[Tensor]] = {}
        self._handles: list[Any] = []
        self._text: dict[str, Tensor] = {}
        for i, block in enumerate(getattr(denoiser, "joint_blocks", [])):
            text, picture = block.context_block.attn, block.x_block.attn
            self._pair(f"joint_blocks.{i}", text, picture, ("ln_q", "ln_k"), rotary=False)
        for i, block in enumerate(getattr(denoiser, "double_blocks", [])):
            names = ("norm.query_norm", "norm.key_norm")
            self._pair(f"double_blocks.{i}", block.txt_attn, block.img_attn, names, rotary=True)
        for i, block in enumerate(getattr(denoiser, "single_blocks", [])):
            self._single(f"single_blocks.{i}", block)

    def _pair(self, name: str, text: Any, picture: Any, norms: Any, rotary: bool) -> None:
        """In the order in which the block projects: one is kept until the other is there."""
        kept: dict[str, Any] = {}

        def on(which: str, attention: Any) -> Callable[..., None]:
            def hook(_module: Any, _inputs: Any, qkv: Tensor) -> None:
                heads = attention.num_heads
                q, k, _ = qkv.double().chunk(3, dim=-1)
                weights = [attention.get_submodule(norm).weight for norm in norms]
                kept[which] = [
                    rms(x.unflatten(-1, (heads, -1)).transpose(1, 2), w)
                    for x, w in zip((q, k), weights, strict=True)
                ]
                if len(kept) == 2:
                    q, k = (torch.cat([kept["text"][j], kept["picture"][j]], 2) for j in (0, 1))
                    self._keep(name, q, k, rotary)
                    kept.clear()

            return hook

        self._handles += [
            text.qkv.register_forward_hook(on("text", text)),
            picture.qkv.register_forward_hook(on("picture", picture)),
        ]

    def _single(self, name: str, block: Any) -> None:
        def hook(_module: Any, _inputs: Any, out: Tensor) -> None:
            q, k, _ = out[..., : 3 * block.hidden_size].double().chunk(3, dim=-1)
            weights = block.norm.query_norm.weight, block.norm.key_norm.weight
            q, k = (
                rms(x.unflatten(-1, (block.num_heads, -1)).transpose(1, 2), w)
                for x, w in zip((q, k), weights, strict=True)
            )
            self._keep(name, q, k, rotary=True)

        self._handles.append(block.linear1.register_forward_hook(hook))

    def _keep(self, name: str, q_BHND: Tensor, k_BHND: Tensor, rotary: bool) -> None:
        text = q_BHND.shape[2] - PICTURE
        if rotary:
            q_BHND, k_BHND = turned(q_BHND, text), turned(k_BHND, text)
        scores = q_BHND @ k_BHND.transpose(-1, -2) / q_BHND.shape[-1] ** 0.5
        attention = scores.softmax(dim=-1).mean(dim=1)[:, text:, :text]
        self.maps.setdefault(name, []).append(attention)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


@pytest.fixture(params=["sd3", "flux"])
def kind(request, host) -> str:
    return request.param


def captured(model: Any, conditioning: Any, slices: int = 1) -> tuple[Capture, Any]:
    from attndreambooth.nodes.host.capture.capture import capture_model

    capture = Capture(prompt="a cat in a hat", words=WORDS, slices=slices)
    return capture, capture_model(model, capture, conditioning)


def test_maps_of_every_block_equal_an_independent_computation(kind):
    model = small_joint_model(kind)
    positive, negative = joint_conditioning(1, TOKENS), joint_conditioning(2, TOKENS)
    capture, watched = captured(model, positive)
    reference = Reference(model.model.diffusion_model)
    order: list[list[int]] = []

    def note(executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
        order.append(list(options["cond_or_uncond"]))
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    watched.add_wrapper_with_key("apply_model", "test_order", note)
    samples = draw(watched, positive, negative)
    reference.remove()
    record, _ = capture.find(samples)
    blocks = {"sd3": 2, "flux": 4}[kind]
    assert len({key.layer for key in record.sums}) == blocks
    for key, found in record.sums.items():
        assert (key.height, key.width) == (HEIGHT // 2, WIDTH // 2)
        expected = torch.zeros(len(WORDS), PICTURE, dtype=torch.float64)
        for call, maps in zip(order, reference.maps[key.layer], strict=True):
            rows = call.index(0)  # the positive one's row of the batch
            for w, word in enumerate(WORDS):
                expected[w] += maps[rows][:, list(word.columns)].sum(dim=-1)
        assert int(found.count.sum()) == 2
        got = found.total[0, 0, :, 0].double()
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-6), key.layer
    maps = word_maps_of(record, MapSelection())
    assert maps.maps.shape == (1, 2, HEIGHT, WIDTH)


def test_the_picture_is_the_one_that_is_drawn_without(kind):
    model = small_joint_model(kind)
    positive, negative = joint_conditioning(1, TOKENS), joint_conditioning(2, TOKENS)
    before = {k: v.clone() for k, v in model.model.diffusion_model.state_dict().items()}
    plain = draw(model, positive, negative, batch=2)
    _, watched = captured(model, positive)
    assert torch.equal(draw(watched, positive, negative, batch=2), plain)
    assert torch.equal(draw(model, positive, negative, batch=2), plain)
    assert "optimized_attention_override" not in model.model_options["transformer_options"]
    for name, value in model.model.diffusion_model.state_dict().items():
        assert torch.equal(value, before[name])


def test_other_peoples_override_and_block_replacement_go_on_being_called(kind):
    calls = {"attention": 0, "block": 0}

    def attention(plain, *args, **kwargs):
        calls["attention"] += 1
        return plain(*args, **kwargs) * 0.5

    def block(args, extra):
        calls["block"] += 1
        return extra["original_block"](args)

    model = small_joint_model(kind).clone()
    options = model.model_options["transformer_options"]
    options["optimized_attention_override"] = attention
    options["patches_replace"] = {"dit": {("double_block", 0): block}}
    positive, negative = joint_conditioning(1, TOKENS), joint_conditioning(2, TOKENS)
    plain, made = draw(model, positive, negative), dict(calls)
    assert made["attention"] > made["block"] > 0
    capture, watched = captured(model, positive)
    samples = draw(watched, positive, negative)
    assert torch.equal(samples, plain)
    assert calls == {name: 2 * count for name, count in made.items()}
    assert capture.find(samples)[0].sums


def test_the_prompt_is_found_among_prompts_of_other_lengths(kind):
    model = small_joint_model(kind)
    positive, negative = joint_conditioning(1, TOKENS), joint_conditioning(2, TOKENS + 4)
    capture, watched = captured(model, positive)
    record, note = capture.find(draw(watched, positive, negative))
    assert note == "" and all(int(s.count.sum()) == 2 for s in record.sums.values())


def test_steps_fall_into_slices_of_sampling(kind):
    from attndreambooth.nodes.host.capture.run import slice_ends, slice_of_sigma

    sampling = small_joint_model(kind).get_model_object("model_sampling")
    ends = slice_ends(sampling, 10)
    for percent in (0.05, 0.25, 0.55, 0.95):
        sigma = torch.tensor([sampling.percent_to_sigma(percent)])
        assert int(slice_of_sigma(ends, sigma)) == int(percent * 10)
    assert int(slice_of_sigma(ends, torch.tensor([1.0]))) == 0


def test_a_kind_that_took_over_the_blocks_of_flux_is_refused(host):
    """Flux 2 pads its text in front: the columns of its words would be those of other tokens."""
    import comfy.model_base

    from attndreambooth.nodes.host.capture.joint import joint_attention

    model = small_joint_model("flux")
    assert joint_attention(model) is not None
    other = copy.copy(model.model)
    other.__class__ = type("Flux2", (comfy.model_base.Flux,), {})
    heir = SimpleNamespace(model=other)
    assert joint_attention(heir) is None
    with pytest.raises(ValueError, match="no joint attention that is known"):
        captured(heir, joint_conditioning(1, TOKENS))


class Seen(Exception):
    """Ends a forward pass: the host's Flux changes tensors in place that its gradient needs."""


def test_the_statistics_of_the_regulariser_have_a_gradient_in_every_block(kind, monkeypatch):
    """A step along it makes the word's mean map in that block smaller."""
    import comfy.model_management

    from attndreambooth.nodes.host.capture.joint import joint_attention

    # as the host's own trainer says it: rotary positions by operations that have a gradient
    monkeypatch.setattr(comfy.model_management, "in_training", True, raising=False)
    with torch.inference_mode(False):
        patcher = small_joint_model(kind)
        denoiser = patcher.model.diffusion_model
        for name, value in list(denoiser.named_parameters()):  # made in inference mode
            owner, _, leaf = name.rpartition(".")
            setattr(denoiser.get_submodule(owner), leaf, torch.nn.Parameter(value.clone()))
        joint = joint_attention(patcher)
        assert joint is not None
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(2, 16, HEIGHT, WIDTH, generator=draws)
        [[context, extra]] = joint_conditioning(1, TOKENS)
        columns = torch.tensor([[2], [2]])

        def mean_of_word(key: tuple[str, int]) -> Tensor:
            found: list[Tensor] = []

            def see(name, q, k, heads, *_) -> None:
                if name == joint.names[key]:
                    found.append(column_statistics(q, k, columns, heads).mean.mean())
                    raise Seen

            def with_gradient(args, extra):
                with torch.enable_grad():
                    return extra["original_block"](args)

            options = {"patches_replace": {"dit": {key: with_gradient}}}
            with torch.no_grad(), pytest.raises(Seen):
                denoiser(
                    x,
                    torch.tensor([0.7, 0.2]),
                    context=context.expand(2, -1, -1).clone(),
                    y=extra["pooled_output"].expand(2, -1),
                    transformer_options=joint.observed(
                        options, TOKENS, (HEIGHT, WIDTH), see, print
                    ),
                    **({"guidance": torch.full((2,), 3.5)} if kind == "flux" else {}),
                )
            return found[0]

        for key, block in joint.names.items():
            before = mean_of_word(key)
            inside = denoiser.get_submodule(block).named_parameters()
            weights = [
                p
                for n, p in inside
                if n.endswith((".attn.qkv.weight", "_attn.qkv.weight", "linear1.weight"))
            ]
            gradients = torch.autograd.grad(before, weights)
            size = sum(float(g.square().sum()) for g in gradients) ** 0.5
            assert all(g.abs().max() > 0 for g in gradients)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight -= 1e-2 * gradient / size
            assert mean_of_word(key) < before


def test_training_such_a_model_is_refused_by_name(kind):
    from attndreambooth.nodes.host.model.families import check_trainable, family

    model, there = small_joint_model(kind), object()
    assert family(model) == {"sd3": "SD 3", "flux": "Flux"}[kind]
    with pytest.raises(ValueError, match=family(model)):
        check_trainable(model, there, there)


def test_the_nodes_show_where_words_look_in_flux(host):
    from comfy.text_encoders.flux import FluxTokenizer

    from attndreambooth.nodes.attention import AttentionMaps, CaptureAttention

    tokenizer, text = FluxTokenizer(), "a guinea pig in a hat"
    length = len(tokenizer.tokenize_with_weights(text)["t5xxl"][0])
    positive, negative = joint_conditioning(1, length), joint_conditioning(2, length)
    clip = SimpleNamespace(
        tokenizer=tokenizer,
        tokenize=tokenizer.tokenize_with_weights,
        encode_from_tokens_scheduled=lambda tokens: positive,
    )
    watched, capture, encoded = CaptureAttention.execute(
        small_joint_model("flux"), clip, text, "guinea pig, hat", 10, False
    ).args
    assert encoded is positive
    samples = draw(watched, encoded, negative)
    widgets = {"words": "", "word": "", "other_word": "hat", "mask_output": "soft"}
    widgets |= {"normalization": "per word", "layers": "down and up", "opacity": 0.65}
    widgets |= {"start_percent": 0.0, "end_percent": 1.0, "layer_list": ""}
    widgets |= {"cell_size": 64, "columns": 0, "head": -1}
    shown = AttentionMaps.execute(capture=capture, samples={"samples": samples}, **widgets).args
    grid, mask, maps, mass, entropy, _, similarity, report = shown
    assert grid.ndim == 4 and mask.shape == (1, 8 * HEIGHT, 8 * WIDTH)
    assert [word.label for word in maps.maps.words] == ["guinea pig", "hat"]
    assert 0 < mass < 1 and 0 < entropy <= 1 and 0 < similarity < 1 and "guinea pig" in report
