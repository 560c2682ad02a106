"""Captured maps equal those of other people's code on the same weights.

diffusers computes every layer's attention explicitly, from the inputs that the host's sampler gave
to the host's U-Net. The published `daam` package then sums its own maps over that U-Net. daam 0.2.0
pins libraries of 2023, so it is installed without them; what it imports only to plot or to parse
English is replaced by empty modules.
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from support.in_diffusers import in_diffusers
from torch import Tensor

from attndreambooth.attndb.attention.capture import Capture
from attndreambooth.attndb.attention.word_maps import MapSelection, word_maps_of
from attndreambooth.devkit.host_path import host_root
from attndreambooth.devkit.small_models import small_model
from attndreambooth.devkit.wires import Calls, Loaded

TEXT = "a photo of a guitarist and two cats"
WORDS = ("guitarist", "cats", "photo")
STEPS = 2
SIDE = 32


@dataclass
class Drawn:
    """One captured run, and the same calls ready for diffusers."""

    capture: Capture
    samples: Tensor
    calls: Calls
    unet: object
    layer_of: dict[str, str]
    """The host's layer name by diffusers' name."""


@pytest.fixture(scope="module", params=["sd15", "sd21"])
def drawn(request, host) -> Drawn:
    from attndreambooth.nodes.host.capture.capture import capture_model
    from attndreambooth.nodes.host.capture.prompt import prompt_words

    clip = tokenizer_alone(request.param)
    capture = Capture(prompt=TEXT, words=prompt_words(clip, TEXT).choose(WORDS), slices=1)
    model = small_model(request.param)
    width = model.model.model_config.unet_config["context_dim"]
    positive, negative = conditioning(width, 1), conditioning(width, 2)
    calls = Calls()
    with torch.inference_mode():
        samples = Loaded(model, None, None).draw(
            calls.watch(capture_model(model, capture, positive)),
            positive,
            negative,
            size=(SIDE, SIDE),
            steps=STEPS,
        )
    unet, layer_of = in_diffusers(model.model)
    return Drawn(capture, samples, calls, unet, layer_of)


def tokenizer_alone(kind: str):
    """A CLIP wire that can only tokenise: what attention sees of a text does not matter here."""
    from comfy.sd1_clip import SD1Tokenizer
    from comfy.text_encoders.sd2_clip import SD2Tokenizer

    tokenizer = SD1Tokenizer() if kind == "sd15" else SD2Tokenizer()
    return types.SimpleNamespace(tokenizer=tokenizer, tokenize=tokenizer.tokenize_with_weights)


def conditioning(width: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, 77, width, generator=generator), {}]]


class Explicit:
    """An attention processor that keeps its probabilities, (B * heads, P, T)."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        q, k, v = (attn.head_to_batch_dim(part) for part in (q, k, v))
        weights = attn.get_attention_scores(q, k)
        self.kept.append(weights)
        return attn.to_out[0](attn.batch_to_head_dim(weights @ v))


def conditional(probabilities: Tensor, order: list[int]) -> Tensor:
    """Mean over the heads of the conditional rows, (P, T)."""
    rows = probabilities.unflatten(0, (len(order), -1))
    return rows[order.index(0)].mean(dim=0)


def test_diffusers_u_net_is_the_hosts(drawn):
    for x, t, context, output in zip(
        drawn.calls.x, drawn.calls.t, drawn.calls.context, drawn.calls.output, strict=True
    ):
        theirs = drawn.unet(x, t, encoder_hidden_states=context).sample
        assert (theirs - output).norm() / output.norm() < 1e-4


def test_maps_of_every_layer_equal_diffusers_explicit_attention(drawn):
    found = drawn.capture.find(drawn.samples)[0].sums
    assert len(found) == len(drawn.layer_of)
    processors = {}
    for name, module in drawn.unet.named_modules():
        if name.endswith("attn2"):
            processors[name] = Explicit()
            module.set_processor(processors[name])
    calls = drawn.calls
    for x, t, context in zip(calls.x, calls.t, calls.context, strict=True):
        drawn.unet(x, t, encoder_hidden_states=context)
    by_layer = {key.layer: value for key, value in found.items()}
    for name, processor in processors.items():
        steps = [conditional(p, o) for p, o in zip(processor.kept, calls.order, strict=True)]
        mean = torch.stack(steps).mean(dim=0)
        mine = by_layer[drawn.layer_of[name]]
        assert mine.count.sum() == STEPS
        for w, word in enumerate(drawn.capture.words):
            theirs = mean[:, list(word.columns)].sum(dim=1)
            ours = mine.total[:, 0, w, 0].sum(dim=0) / STEPS
            error = (ours - theirs).norm() / theirs.norm()
            assert error < 1e-4, (name, word.label, float(error))


def test_maps_agree_with_the_published_daam_package(drawn, tmp_path, monkeypatch):
    daam = import_daam(monkeypatch)
    from transformers import CLIPTokenizer

    pipe = types.SimpleNamespace(
        unet=drawn.unet,
        vae_scale_factor=8,
        tokenizer=CLIPTokenizer.from_pretrained(host_root() / "comfy" / "sd1_tokenizer"),
        check_inputs=lambda prompt: None,
    )
    with daam.DiffusionHeatMapHooker(pipe, data_dir=tmp_path) as trace:
        pipe.check_inputs(TEXT)
        for x, t, context, order in zip(
            drawn.calls.x, drawn.calls.t, drawn.calls.context, drawn.calls.order, strict=True
        ):
            turn = [order.index(1), order.index(0)]  # daam takes the second half for the prompt
            drawn.unet(x[turn], t[turn], encoder_hidden_states=context[turn])
        theirs = trace.compute_global_heat_map()
    record = drawn.capture.find(drawn.samples)[0]
    maps = word_maps_of(record, MapSelection())
    for word in WORDS:
        wanted = theirs.compute_word_heat_map(word).value
        mine = F.interpolate(maps.of(word)[None], size=wanted.shape, mode="bicubic")[0, 0]
        assert cosine(mine, wanted) >= 0.98, word
        # All maps are alike by their mean; these also agree around it.
        assert cosine(mine - mine.mean(), wanted - wanted.mean()) >= 0.98, word


def cosine(first: Tensor, second: Tensor) -> float:
    return float(F.cosine_similarity(first.flatten(), second.flatten(), dim=0))


def import_daam(monkeypatch):
    """The package's own modules, without the libraries that it only plots and parses with."""
    for name in ("spacy", "spacy.tokens", "matplotlib", "matplotlib.pyplot"):
        try:
            __import__(name)
        except ImportError:
            empty = types.ModuleType(name)
            empty.__path__ = []
            monkeypatch.setitem(sys.modules, name, empty)
    spacy, matplotlib = sys.modules["spacy"], sys.modules["matplotlib"]
    tokens, pyplot = sys.modules["spacy.tokens"], sys.modules["matplotlib.pyplot"]
    monkeypatch.setattr(spacy, "tokens", tokens, raising=False)
    monkeypatch.setattr(tokens, "Token", object, raising=False)
    monkeypatch.setattr(matplotlib, "pyplot", pyplot, raising=False)
    if not hasattr(pyplot, "Axes"):
        monkeypatch.setattr(pyplot, "Axes", object, raising=False)
    import daam

    return daam
