"""docs/library.md: its examples run as they stand, without ComfyUI, and do what the page says."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import concept_files
from attndreambooth.attndb.artifacts.tensor_file import write_whole
from attndreambooth.attndb.config.presets import paper
from attndreambooth.devkit.pack import ROOT

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
MODEL, LOOP, CONCEPT = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
HOST = ("comfy", "folder_paths", "nodes", "server")


@pytest.fixture
def outside(monkeypatch, tmp_path):
    """As the page has it: the pack's folder on the path, and no ComfyUI."""
    for name in HOST:
        monkeypatch.setitem(sys.modules, name, None)  # to import it is an error
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "attndb"]:
        del sys.modules[name]


def run(*blocks: str, **names) -> dict:
    """The names that a program of these blocks ends with."""
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), names)  # noqa: S102
    return names


class Explicit:
    """diffusers' attention with its whole maps, and the regulariser over them by the formula."""

    def __init__(self, unet) -> None:
        self.maps = []
        unet.set_attn_processor({name: self.of(name) for name in unet.attn_processors})

    def of(self, name):
        """What computes this layer."""

        def attend(attn, hidden_states, encoder_hidden_states=None, *_, **__):
            text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            q, k, v = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
            maps = attn.get_attention_scores(*map(attn.head_to_batch_dim, (q, k)))
            if ".attn2." in name:
                self.maps.append(maps.unflatten(0, (len(q), -1)))  # (B, H, P, T)
            out = attn.batch_to_head_dim(maps @ attn.head_to_batch_dim(v))
            return attn.to_out[0](out)

        return attend

    def loss(self, new: int, category: int) -> torch.Tensor:
        """With the published weights, 2 and 5."""
        total = torch.zeros(())
        for maps in self.maps:
            for sample in maps:
                v, c = sample[..., new], sample[..., category]
                total = total + 2.0 * (v.mean() - c.mean()) ** 2 + 5.0 * (v.var() - c.var()) ** 2
        return total / len(self.maps)


def test_the_loop_adds_the_regulariser_of_a_diffusers_unet(outside):
    made = run(MODEL, LOOP)
    unet, layers = made["unet"], made["layers"]
    assert len(layers) == len(made["statistics"]) == 4
    assert not [m for m in unet.modules() if m._forward_hooks], "the tap is off"

    z, t, text = made["latents"], torch.tensor([10, 700]), 3 * made["text"]
    with made["CrossAttentionTap"](layers) as tap, tap.watching(made["columns"]) as statistics:
        unet(z, t, text)
    ours = made["attention_map_loss"](list(statistics.values()), 2.0, 5.0)
    ours = [ours, *torch.autograd.grad(ours, made["weights"], allow_unused=True)]
    explicit = Explicit(unet)
    unet(z, t, text)
    theirs = explicit.loss(5, 6)
    theirs = [theirs, *torch.autograd.grad(theirs, made["weights"], allow_unused=True)]
    assert theirs[0] > 0
    for one, other in zip(ours, theirs, strict=True):
        if other is None:
            assert one is None, "values and outputs of the last layer learn nothing of it"
        else:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-9)


def test_the_loop_trains_alike_with_gradient_checkpointing(outside):
    plain = run(MODEL, LOOP)
    checkpointed = run(f"{MODEL}\nunet.train().enable_gradient_checkpointing()", LOOP)
    for one, other in zip(plain["weights"], checkpointed["weights"], strict=True):
        assert torch.equal(one, other)


def test_a_saved_concept_is_read(outside, capsys):
    stages = [{**stage.as_dict(), "losses": [[0.5, 0.01], [0.4, 0.02]]} for stage in paper()]
    concept = TrainedConcept(
        placeholder="<my-dog>",
        category="dog",
        text_key="clip_l",
        vectors=torch.randn(1, 8),
        delta={"middle_block.1.transformer_blocks.0.attn2.to_k.weight": torch.randn(6, 8)},
        base_family="SD 1.5",
        record={"stages": stages},
    )
    paths = [outside / "models" / kind / "my-dog.safetensors" for kind in ("embeddings", "loras")]
    write_whole(concept_files(concept, "my-dog", *paths))
    read = run(CONCEPT)
    assert capsys.readouterr().out.splitlines() == [
        "<my-dog> dog SD 1.5",
        "1 60 0.001 [0.4, 0.02]",
        "2 100 2e-05 [0.4, 0.02]",
        "3 500 2e-06 [0.4, 0.02]",
    ]
    assert torch.equal(read["vectors"], concept.vectors)
    assert read["changes"].keys() == concept.delta.keys()
    for name, change in read["changes"].items():
        assert torch.equal(change, concept.delta[name])
